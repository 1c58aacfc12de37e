"""Messages between the trainer and an engine in another process, over a socket: JSON, and tensors as raw bytes.

Nothing that is received is ever run or unpickled. A frame is its length in 8 bytes, then JSON; a tensor is a frame with
its name, dtype and shape, then its bytes; an empty frame ends a row of tensors.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

TENSOR_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}

MAX_FRAME = 2**30
"""Bytes of a frame; what claims more is not one of ours."""


class Connection:
    """One end of a connection. Every wait ends at `until`.

    Raises (all methods):
        TimeoutError: the time is up.
        ConnectionError: the other end is gone, or is not one of ours.
    """

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.until: float | None = None
        """`time.monotonic()` at which the other end is given up; None waits for ever."""

    def within(self, seconds: float | None) -> None:
        """Allow this much time from now on for everything that follows."""
        self.until = None if seconds is None else time.monotonic() + seconds

    def send(self, message: Mapping[str, Any]) -> None:
        text = json.dumps(message).encode()
        self._write(struct.pack(">Q", len(text)) + text)

    def receive(self, longest: int = MAX_FRAME) -> dict[str, Any]:
        """The next message.

        Raises:
            ConnectionError: the other end is gone, or sends what is no message.
        """
        (length,) = struct.unpack(">Q", self._read(8))
        if length > longest:
            raise ConnectionError("the other end does not speak this protocol")
        try:
            message = json.loads(self._read(length))
        except (ValueError, RecursionError):
            raise ConnectionError("the other end does not speak this protocol") from None
        if not isinstance(message, dict):
            raise ConnectionError("the other end does not speak this protocol")
        return message

    def send_tensors(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Tensors of any device, one after the other."""
        for name, tensor in tensors:
            dtype = str(tensor.dtype).removeprefix("torch.")
            self.send({"name": name, "dtype": dtype, "shape": list(tensor.shape)})
            copied = tensor.detach().to("cpu", copy=True)  # numpy would take over the storage, which FSDP2 resizes
            self._write(_bytes(copied.contiguous().reshape(-1).view(torch.uint8)))
        self.send({})

    def receive_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors on the CPU as they come; exhaust it before the next message.

        Raises:
            ConnectionError: the other end is gone, or sends what is no tensor.
        """
        while head := self.receive():
            shape, dtype = head.get("shape"), TENSOR_DTYPES.get(str(head.get("dtype")))
            if dtype is None or not isinstance(shape, list) or not isinstance(head.get("name"), str):
                raise ConnectionError("the other end does not speak this protocol")
            if not all(type(n) is int and n >= 0 for n in shape):
                raise ConnectionError("the other end does not speak this protocol")
            flat = torch.empty(math.prod(shape) * dtype.itemsize, dtype=torch.uint8)
            self._fill(_bytes(flat))
            yield head["name"], flat.view(dtype).reshape(shape)

    def close(self) -> None:
        self.sock.close()

    def _write(self, data: bytes | memoryview) -> None:
        self._arm()
        self.sock.sendall(data)

    def _read(self, length: int) -> bytes:
        data = bytearray(length)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, view: memoryview) -> None:
        while view:
            self._arm()
            got = self.sock.recv_into(view)
            if not got:
                raise ConnectionError("the other end is gone")
            view = view[got:]

    def _arm(self) -> None:
        left = None if self.until is None else self.until - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("the time is up")
        self.sock.settimeout(left)


def _bytes(flat: Tensor) -> memoryview:
    """The memory of a flat tensor of bytes, not a copy."""
    return memoryview(cast(Any, flat.numpy()))
