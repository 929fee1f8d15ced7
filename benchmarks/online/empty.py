"""The least that a handler can do: read the request's body, answer a constant one of a given size.

``python -m benchmarks.online.empty uvicorn|granian-asgi|granian-rsgi PORT BYTES``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["SERVERS", "asgi", "main", "rsgi"]

SERVERS = ("uvicorn", "granian-asgi", "granian-rsgi")
_BYTES = "BENCH_EMPTY_BYTES"
BODY = b'"' + b"x" * (int(os.environ.get(_BYTES, "2")) - 2) + b'"'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
TEXT_HEADERS = [(name.decode(), value.decode()) for name, value in HEADERS]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


async def rsgi(scope: Any, protocol: Any) -> None:
    del scope
    await protocol()
    protocol.response_bytes(200, TEXT_HEADERS, BODY)


def main(server: str, port: int, n_bytes: int) -> None:
    """Serve until told to end, in one process."""
    os.environ[_BYTES] = str(n_bytes)  # granian's worker imports this module anew
    here = "benchmarks.online.empty"
    if server == "uvicorn":
        import uvicorn

        uvicorn.run(
            f"{here}:asgi",
            port=port,
            log_level="warning",
            access_log=False,
            loop="uvloop",
            http="httptools",
            server_header=False,
        )
        return
    from granian import Granian
    from granian.constants import Interfaces, Loops

    interface = Interfaces.ASGI if server == "granian-asgi" else Interfaces.RSGI
    Granian(
        f"{here}:{interface.value}",
        port=port,
        interface=interface,
        workers=1,
        loop=Loops.uvloop,
        log_access=False,
    ).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
