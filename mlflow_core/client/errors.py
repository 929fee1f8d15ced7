"""What can go wrong for a caller of the server, one class for each thing that a caller would do about it.

ClientError
+-- RequestRefused      the request is wrong: mend it (4xx)
+-- ServerUnavailable   no connection, no answer in time, too busy, store down: try later (timeouts, 503, 504)
+-- ServerFailed        the server has a fault: look at its log (other 5xx)
+-- UnexpectedAnswer    what answered is no mlcore server, or another version of one

Each is also the built-in error that fits it.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ClientError", "RequestRefused", "ServerFailed", "ServerUnavailable", "UnexpectedAnswer"]


class ClientError(Exception):
    """A call that gave no answer.

    Args:
        message: What happened.
        status: The HTTP status, or None where there was no answer.
        attempts: How often the call was tried.
    """

    def __init__(self, message: str, *, status: int | None = None, attempts: int = 1) -> None:
        super().__init__(message)
        self.status = status
        self.attempts = attempts


class RequestRefused(ClientError, ValueError):
    """The server says that the request is wrong.

    Args:
        message: What is wrong.
        status: The HTTP status, 4xx.
        name: The name that is wrong, or None.
        nearest: Known names near it.
        hint: What to do, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        name: str | None = None,
        nearest: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, status=status)
        self.name = name
        self.nearest = tuple(nearest)
        self.hint = hint


class ServerUnavailable(ClientError, ConnectionError):
    """The server cannot be reached, did not answer in time, or says that it cannot answer now.

    Args:
        message: What happened.
        status: The HTTP status, or None where there was no answer.
        attempts: How often the call was tried.
        degraded: Which part of the service is not there, e.g. ``store``; None where that is not why.
    """

    def __init__(
        self, message: str, *, status: int | None = None, attempts: int = 1, degraded: str | None = None
    ) -> None:
        super().__init__(message, status=status, attempts=attempts)
        self.degraded = degraded


class ServerFailed(ClientError, RuntimeError):
    """The server has a fault; its log holds the cause."""


class UnexpectedAnswer(ClientError, RuntimeError):
    """What answered is no ``mlcore serve`` of a version that this client knows."""
