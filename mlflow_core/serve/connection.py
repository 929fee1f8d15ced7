"""One connection of a caller: uvicorn's, which answers whole requests for features by itself.

uvicorn makes a task, a scope and some messages of each request, which take as long as all that has to be done for a few
features. A request that is whole in one read, on a connection where none is on its way, is begun at once here
(``direct``) and its answer written in one piece. Everything else is uvicorn's, and so are limits, flow control, keep-alive
and the end of the server: a connection does one or the other, never both at a time.

Of uvicorn's protocol this uses what is not documented: ``cycle``, ``flow``, ``loop``, ``timeout_keep_alive_task``,
``server_state`` and the parser's callbacks. So its version is bounded, and ``tests/serve/test_connection.py`` holds
both ways against each other.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mlflow_core.serve.app import Application
from mlflow_core.serve.deadline import Place
from mlflow_core.serve.messages import Reply
from mlflow_core.serve.routes import FEATURES
from mlflow_core.serve.whole_request import WholeRequests

__all__ = ["Connection"]


class Connection(HttpToolsProtocol):
    """A connection; uvicorn makes them, as it is told by ``http=Connection``.

    Args:
        config: The server's configuration.
        server_state: What its connections share.
        app_state: State of the application's life.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        app = config.loaded_app
        # Both count or tell what happens here only.
        ordinary = config.limit_concurrency is not None or config.access_log
        direct = app.direct if isinstance(app, Application) and not ordinary else None
        # Of a store that has to be waited for every request would be read and checked twice.
        self._direct = direct if direct is not None and direct.routes.reads.soon else None
        self._requests = WholeRequests(FEATURES)
        self._started = 0.0
        self._place: Place | None = None  # of a head that waits for its body
        self._arriving = False  # of a request that is uvicorn's a part is there
        self._answering = False
        self._last = False  # the server ends
        self._held: list[bytes] = []
        self._answered_at = 0.0
        self._shared_headers: list[tuple[bytes, bytes]] = []
        self._start = b""

    def data_received(self, data: bytes) -> None:
        """Begin to answer what has come in, or leave it to uvicorn."""
        if self._answering or self._held:  # one after the other
            self._held.append(data)
            self.flow.pause_reading()
            return
        direct, place = self._direct, self._place
        if direct is None or (place is None and not self._idle()):
            super().data_received(data)
            return
        if place is None:
            self._started = perf_counter()
        else:
            self._leave(place)
        head = self._requests.head
        request = self._requests.read(data)
        if request is None:
            self._place = direct.heads.taken(self.loop, self._hand_over)
        elif isinstance(request, bytes):
            super().data_received(request)
        elif direct.begin(self.loop, request, self._answer, self._started):
            self._answering = True
        else:
            super().data_received(head + data)

    def on_message_begin(self) -> None:
        """Begin a request that is uvicorn's."""
        self._arriving = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """End a request that is uvicorn's."""
        self._arriving = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what has come in; what is asked of the store for this caller is counted, and told to nobody."""
        self._held.clear()
        if self._place is not None:
            self._leave(self._place)
        if self.timeout_keep_alive_task is not None:  # uvicorn's leaves it where the connection was reset
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End the connection, after the request that is being answered or whose head is there."""
        if self._answering:
            self._last = True
            return
        if self._place is not None:
            self._hand_over()
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if nobody has used it for long enough; one timer goes on over many requests."""
        rest = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if self._answering or self._held or self._place is not None or rest > 0:
            self._closed_after(rest if rest > 0 else self.timeout_keep_alive)
        else:
            super().timeout_keep_alive_handler()

    def _idle(self) -> bool:
        if self._arriving or self.flow.write_paused or self.transport.is_closing():
            return False
        complete: bool = getattr(self.cycle, "response_complete", True)  # there is none before the first
        return complete

    def _leave(self, place: Place) -> None:
        place.late = None
        self._place = None

    def _hand_over(self) -> None:
        """Leave a head whose body does not come to uvicorn, which has limits for such."""
        if self._place is not None:
            self._leave(self._place)
        if not self.transport.is_closing():
            super().data_received(self._requests.left())

    def _answer(self, reply: Reply) -> None:
        self._answering = False
        if self.transport.is_closing():
            return
        self.server_state.total_requests += 1
        self.transport.write(self._told(reply))
        if self._last:
            self.transport.close()
            return
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._closed_after(self.timeout_keep_alive)
        if self._held:
            # Later: this is told inside the store's or the deadline's callback, where a fault would be everybody's.
            self.loop.call_soon(self._read_held)

    def _read_held(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.data_received(data)

    def _told(self, reply: Reply) -> bytes:
        status, body, content_type, headers = reply
        shared = self.server_state.default_headers
        if shared is not self._shared_headers:  # uvicorn makes them anew every second
            self._shared_headers = shared
            self._start = b"".join([b"%b: %b\r\n" % header for header in shared])
        more = b"".join([b"%b: %b\r\n" % header for header in headers]) if headers else b""
        if self._last:
            more += b"connection: close\r\n"
        return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
            STATUS_LINE[status],
            self._start,
            content_type,
            len(body),
            more,
            body,
        )

    def _closed_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
