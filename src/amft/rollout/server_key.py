"""A key for every endpoint of a vLLM server: `vllm serve --middleware amft.rollout.server_key.RequireKey`.

vLLM's own `--api-key` does not guard the endpoints that change the weights. No import of vLLM here.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

AsgiMessage = MutableMapping[str, Any]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[AsgiMessage, Callable[[], Awaitable[AsgiMessage]], AsgiSend], Awaitable[None]]


class RequireKey:
    """ASGI middleware: a request without `Authorization: Bearer $VLLM_API_KEY` is answered 401.

    Args:
        app: what it guards.

    Raises:
        ValueError: VLLM_API_KEY is not set.
    """

    def __init__(self, app: AsgiApp):
        key = os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise ValueError("VLLM_API_KEY: set it to a long random word, here and for the trainer")
        self.app, self.wanted = app, f"Bearer {key}".encode()

    async def __call__(self, scope: AsgiMessage, receive: Callable[[], Awaitable[AsgiMessage]], send: AsgiSend) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or hmac.compare_digest(given, self.wanted):
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        said = json.dumps({"error": "the key is missing or wrong"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        return await send({"type": "http.response.body", "body": said})
