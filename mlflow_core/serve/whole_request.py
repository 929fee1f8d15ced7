"""Requests that come as one piece of bytes, or as a head and then its body, as nearly all do: read without a task.

The parser is the one of uvicorn's connections (httptools). Whatever is not one plain request for a known target, whole and
alone, is given back as the bytes that it is: more parts, several requests at once, another method or HTTP/1.0, an upgrade,
``Expect``, a caller that wants the connection closed, what is no HTTP. ``connection`` hands it to uvicorn then, and
nothing has happened.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TypeAlias

import httptools

__all__ = ["WholeRequest", "WholeRequests"]

WholeRequest: TypeAlias = tuple[bytes, bytes, bytes]
"""A POST: its target (the path, as sent), its first ``Accept`` header, its body."""

_LONGEST_HEAD = 8 * 1024  # that is kept while its body comes
_LONGEST_BODY = 64 * 1024  # that is waited for


class WholeRequests:
    """Reads the requests of one connection, of which one at a time is on its way.

    Args:
        targets: The targets of requests that are read here.

    Attributes:
        head: A head whose body has not come yet, or nothing.
    """

    def __init__(self, targets: Container[bytes]) -> None:
        self.head = b""
        self._targets = targets
        self._heard = _Heard()

    def read(self, data: bytes) -> WholeRequest | bytes | None:
        """Read what has come in.

        Args:
            data: The bytes.

        Returns:
            A request; or all bytes that have come of something else; or None: a head is there, and its body is to come.
        """
        heard, head = self._heard, self.head
        if not head and not data.startswith(b"POST "):
            return data
        try:
            heard.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            heard.plain = False
        if heard.plain and heard.begun == 1 and heard.target in self._targets:
            if heard.ended == 1:
                self.head = b""
                request = heard.target, heard.accept or b"", heard.body
                heard.forget()  # a connection that is idle keeps no body
                return request
            if not head and heard.waits and len(data) <= _LONGEST_HEAD:
                self.head = data
                return None
        return self.left() + data

    def left(self) -> bytes:
        """Forget the head that waits for its body, and return it."""
        head, self.head = self.head, b""
        self._heard.anew()
        self._heard.forget()
        return head


class _Heard:
    """What the parser has told of the bytes that it was given."""

    __slots__ = ("accept", "begun", "body", "ended", "parser", "plain", "target", "waits")

    def __init__(self) -> None:
        self.anew()
        self.forget()

    def anew(self) -> None:
        """Take another parser: one that has begun something waits for the rest of it."""
        self.parser = httptools.HttpRequestParser(self)

    def forget(self) -> None:
        self.begun = self.ended = 0
        self.plain = True
        self.waits = False  # for a body of which nothing has come, and which is not too long
        self.target = self.body = b""
        self.accept: bytes | None = None

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        length = len(name)
        if length == 6:
            lower = name.lower()
            if lower == b"accept" and self.accept is None:
                self.accept = value
            elif lower == b"expect":
                self.plain = False
        elif length == 14 and name.lower() == b"content-length":
            self.waits = int(value) <= _LONGEST_BODY

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser.should_upgrade() or not parser.should_keep_alive() or parser.get_http_version() != "1.1":
            self.plain = False

    def on_body(self, body: bytes) -> None:
        self.waits = False
        self.body = self.body + body if self.body else body

    def on_message_complete(self) -> None:
        self.ended += 1
