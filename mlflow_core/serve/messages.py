"""Requests and answers on the wire of ASGI: read a body up to a limit, send JSON. Knows no feature and no model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import orjson

from mlflow_core.serve.deadline import Deadline
from mlflow_core.serve.refusal import Refusal

__all__ = ["Receive", "Reply", "Scope", "Send", "header_of", "json_reply", "read_body", "send_reply"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = b"application/json"


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status: HTTP status.
        body: The bytes.
        content_type: What they are.
        headers: Further headers.
    """

    status: int
    body: bytes
    content_type: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_reply(data: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """Make an answer of JSON."""
    return Reply(status, orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY), headers=headers)


def header_of(scope: Scope, name: bytes) -> bytes:
    """Return a request's header, or nothing where it has none.

    Args:
        scope: The request's head.
        name: The header's name in small letters.
    """
    return next((value for key, value in scope["headers"] if key == name), b"")


async def read_body(scope: Scope, receive: Receive, limit: int, deadline: Deadline) -> bytes:
    """Read a request's body.

    Args:
        scope: The request's head.
        receive: Gives the next part.
        limit: Most bytes.
        deadline: How long its first part may take, and then the rest.

    Raises:
        Refusal: It is longer (413); what is beyond is not read.
        TimeoutError: It did not arrive in time.
        ConnectionResetError: The caller has gone.
    """
    length = header_of(scope, b"content-length")
    if length.isdigit() and int(length) > limit:
        raise _too_long(int(length), limit)
    message = await deadline.wait(receive())
    if message["type"] == "http.request" and not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        if len(whole) > limit:
            raise _too_long(len(whole), limit)
        return whole
    async with asyncio.timeout(deadline.seconds):
        return await _rest_of_body(message, receive, limit)


async def _rest_of_body(message: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the caller has gone")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_long(size, limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


async def send_reply(send: Send, reply: Reply, *, head_only: bool = False) -> None:
    """Send an answer."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else reply.body})


def _too_long(size: int, limit: int) -> Refusal:
    return Refusal(
        f"the body has {size} bytes or more",
        status=413,
        expected=f"at most {limit}",
        hint="Send it in parts.",
    )
