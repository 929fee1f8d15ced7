"""Requests as the bytes that they are, usual and unusual ones, and what comes back of them on one connection."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack

import orjson

FEAST, OURS = "/get-online-features", "/v1/features"
END = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# They end a connection at once: what uvicorn says of requests before and behind them depends on how they come in.
ENDING = {
    "upgrade",
    "last",
    "two lengths",
    "length and chunks",
    "no HTTP",
    "no header",
    "line feeds",
    "junk behind",
}


_LISTS = b"[" * 1000 + b"]" * 1000
DEEP = b'{"feature_service":"plain","entities":{"user_id":[%b]}}' % _LISTS
DEEP_TWICE = b'{"service":"plain","entities":[{"user_id":%b}],"request":[{"user_id":%b}]}' % (_LISTS, _LISTS)


def feast(*users: object, service: str = "plain", **more: object) -> bytes:
    return orjson.dumps({"feature_service": service, "entities": {"user_id": users}, **more})


def compact(*users: object, service: str = "plain", **more: object) -> bytes:
    return orjson.dumps({"service": service, "entities": [{"user_id": one} for one in users], **more})


def sent(
    path: str, body: bytes, *headers: str, start: str = "POST", version: str = "1.1", length: bool = True
) -> bytes:
    lines = [f"{start} {path} HTTP/{version}", "Host: shop", *headers]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def usual() -> dict[str, bytes]:
    """Requests of which most are answered directly."""
    tills = orjson.dumps({"feature_service": "tills", "entities": {"till_id": [1, 7]}})
    references = orjson.dumps({"features": ["spending:orders_24h"], "entities": {"user_id": [1]}})
    arrow = "Accept: application/vnd.apache.arrow.stream"
    return {
        "one": sent(FEAST, feast(1)),
        "two, other spelling": sent(FEAST, feast(2, 1, full_feature_names=True), "accept: */*", "X-Y: z"),
        "unknown key": sent(FEAST, feast(1, 99)),
        "null key": sent(FEAST, feast(1, None)),
        "no rows": sent(FEAST, feast()),
        "versions": sent(FEAST, feast(1, include_feature_view_version_metadata=True)),
        "text and lists": sent(FEAST, tills),
        "references": sent(FEAST, references),
        "ours": sent(OURS, compact(1)),
        "ours, more": sent(OURS, compact(1, 2, types=True, event_timestamps=True)),
        "ours, arrow": sent(OURS, compact(1, 2), arrow),
        "chunks at once": sent(FEAST, chunked(feast(1)), "Transfer-Encoding: chunked", length=False),
        "kept alive": sent(FEAST, feast(2), "Connection: keep-alive"),
    }


def unusual() -> dict[str, bytes]:
    """Requests that are uvicorn's, or refused."""
    on_demand = orjson.dumps({"feature_service": "shop", "entities": {"user_id": [1], "basket": [2.0]}})
    return {
        "no JSON": sent(FEAST, b"{"),
        "no object": sent(FEAST, b"[]"),
        "another type": sent(FEAST, feast("x")),
        "deep": sent(FEAST, DEEP),
        "deep twice": sent(OURS, DEEP_TWICE),
        "no service": sent(FEAST, feast(1, service="none")),
        "unknown field": sent(OURS, compact(1, nothing=1)),
        "on demand": sent(FEAST, on_demand),
        "too large": sent(FEAST, b"x" * 20_001),
        "empty": sent(FEAST, b""),
        "query": sent(FEAST + "?x=1", feast(1)),
        "quoted": sent("/get%2Donline-features", feast(1)),
        "absolute": sent("http://shop" + FEAST, feast(1)),
        "elsewhere": sent("/nowhere", feast(1)),
        "HEAD": sent(FEAST, b"", start="HEAD", length=False),
        "GET": sent("/health", b"", start="GET", length=False),
        "PUT": sent(FEAST, feast(1), start="PUT"),
        "services": sent("/v1/services", b"", start="GET", length=False),
        "old": sent(FEAST, feast(1), "Connection: keep-alive", version="1.0"),
        "last": sent(FEAST, feast(1), "Connection: close"),
        "expects": sent(FEAST, feast(1), "Expect: 100-continue"),
        "upgrade": sent(FEAST, feast(1), "Connection: Upgrade", "Upgrade: h2c"),
        "empty line first": b"\r\n" + sent(FEAST, feast(1)),
        "two lengths": sent(FEAST, feast(1), "Content-Length: 3"),
        "length and chunks": sent(FEAST, chunked(feast(1)), "Transfer-Encoding: chunked"),
        "no HTTP": b"POST nothing\r\n\r\n",
        "no header": sent(FEAST, feast(1), "no header"),
        "line feeds": sent(FEAST, feast(1)).replace(b"\r\n", b"\n"),
        "junk behind": sent(FEAST, feast(1)) + b"junk",
    }


def told(url: str, pieces: Sequence[bytes], pause_s: float = 0.0) -> bytes:
    """Send pieces on one connection, and return all that comes until its end; the date, which goes on, is taken out."""
    host, port = url.removeprefix("http://").split(":")
    came = b""
    with socket.create_connection((host, int(port)), 10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                if pause_s:
                    time.sleep(pause_s)
            while part := connection.recv(1 << 16):
                came += part
        except ConnectionError:
            pass  # reset by who does not read what is too much
    return re.sub(rb"\r\ndate: [^\r]*", b"", came)


def connected(stack: ExitStack, url: str, data: bytes) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = stack.enter_context(socket.create_connection((host, int(port)), 30))
    connection.sendall(data)
    return connection
