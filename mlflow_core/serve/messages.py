"""Requests and answers on the wire of ASGI: headers, JSON, sending. Bodies are read in ``bodies``; knows no feature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import orjson

from mlflow_core.serve.refusal import Refusal

__all__ = ["Receive", "Reply", "Scope", "Send", "header_of", "json_object", "json_reply", "send_reply"]

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


def json_object(body: bytes, expected: str) -> dict[str, Any]:
    """Read a body that has to be a JSON object.

    Args:
        body: The bytes.
        expected: What such an object looks like here.

    Raises:
        Refusal: It is no JSON (400), or no object (422).
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"the body is no JSON: {error}", status=400) from None
    if not isinstance(given, dict):
        raise Refusal("the body is no JSON object", expected=expected)
    return given


def header_of(scope: Scope, name: bytes) -> bytes:
    """Return a request's header, or nothing where it has none.

    Args:
        scope: The request's head.
        name: The header's name in small letters.
    """
    return next((value for key, value in scope["headers"] if key == name), b"")


async def send_reply(send: Send, reply: Reply, *, head_only: bool = False) -> None:
    """Send an answer."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else reply.body})
