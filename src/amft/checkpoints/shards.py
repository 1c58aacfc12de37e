"""Tensors that lie in shards: each rank writes and reads its own part, in safetensors.

torch.distributed.checkpoint with its safetensors storage. (Its default storage pickles, both metadata and tensors.)
Every file's JSON header tells where its pieces belong, so any number of ranks, one process too, reads what any other
number wrote.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from ..disk import reason
from ..distributed.ranks import Ranks
from ..errors import CheckpointError
from ..meta.inner import local
from ..tensors import TensorGroups

FILE_BYTES = 2**28
"""Of one rank's tensors in a file: torch makes it twice in memory before it writes, and no other thread runs then."""


def apart(tensors: Mapping[str, Mapping[str, Tensor]]) -> tuple[TensorGroups, TensorGroups]:
    """Groups of named tensors -> those that every rank has whole, and those in shards."""
    whole: TensorGroups = {}
    shards: TensorGroups = {}
    for group, named in tensors.items():
        whole[group] = {name: value for name, value in named.items() if not isinstance(value, DTensor)}
        cut: dict[str, Tensor] = {name: value for name, value in named.items() if isinstance(value, DTensor)}
        if cut:
            shards[group] = cut
    return whole, shards


def save_shards(directory: Path, shards: TensorGroups, ranks: Ranks) -> None:
    """Every rank writes its part into `directory`, which all must see.

    Raises:
        CheckpointError: the disk is full or refuses.
    """
    flat = {f"{group}/{name}": value for group, named in shards.items() for name, value in named.items()}
    writer = HuggingFaceStorageWriter(str(directory), _files(flat), save_distributed=True)
    try:
        save(flat, storage_writer=writer, process_group=ranks.group, no_dist=ranks.group is None)
    except CheckpointException as error:  # every rank gets it, whichever could not write
        first = next(iter(error.failures.values()))[0]
        raise CheckpointError(f"{directory}: cannot be written ({reason(first)}); free some space and resume") from None


def load_shards(directory: Path, like: Mapping[str, Tensor], ranks: Ranks) -> TensorGroups:
    """Read every group back, cut as this run's parameters are.

    Args:
        like: name -> parameter; the tensor `SLOT.NAME` is laid out as the parameter NAME.

    Raises:
        CheckpointError: a tensor belongs to no parameter, or has another shape.
    """
    reader = HuggingFaceStorageReader(str(directory))
    flat: dict[str, Tensor] = {}
    for key, entry in reader.read_metadata().state_dict_metadata.items():
        parameter = like.get(key.partition("/")[2].partition(".")[2])
        assert isinstance(entry, TensorStorageMetadata)
        if parameter is None or parameter.shape != entry.size:
            raise CheckpointError(f"{directory}: {key} fits no parameter that is trained here; resume the same model")
        flat[key] = torch.zeros_like(parameter, dtype=entry.properties.dtype)
    with warnings.catch_warnings():  # that one process reads alone, which is what is meant
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(flat, storage_reader=reader, process_group=ranks.group, no_dist=ranks.group is None)
    groups: TensorGroups = {}
    for key, value in flat.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = value
    return groups


def _files(flat: Mapping[str, Tensor]) -> dict[str, int]:
    """Name of a tensor -> number of its file, as rank 0 says for all."""
    numbers: dict[str, int] = {}
    number, filled = 1, 0
    for name, value in flat.items():
        filled += local(value).nbytes
        if filled > FILE_BYTES and filled > local(value).nbytes:
            number, filled = number + 1, local(value).nbytes
        numbers[name] = number
    return numbers
