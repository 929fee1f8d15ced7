"""Messages between the processes of a step: JSON with its length in front, on a socket or pipe.

Nothing is unpickled. Where the other side has gone, reading says so and writing is no error: what happens then is
decided by whoever reads.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["Inbox", "Outbox", "send"]

_LENGTH: Final = struct.Struct("<I")
_AT_ONCE: Final = 1 << 16


class Inbox:
    """What arrives on a descriptor, cut into messages.

    Args:
        descriptor: A socket's or pipe's, blocking or not.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._bytes = bytearray()

    def receive(self) -> list[dict[str, Any]]:
        """Read what is there, once, and return the messages that are whole now; ``ended`` tells of the other side's end."""
        self._read()
        return self.left()

    def left(self) -> list[dict[str, Any]]:
        """Return the messages that came together with the one that was waited for: no descriptor tells of them again."""
        return list(self._whole())

    def wait(self) -> dict[str, Any] | None:
        """Wait for one message, and leave those after it; None where the other side ends before."""
        while (message := next(self._whole(), None)) is None and not self.ended:
            self._read()
        return message

    def _read(self) -> None:
        try:
            read = os.read(self.descriptor, _AT_ONCE)
        except BlockingIOError:
            return
        except ConnectionError:
            read = b""
        self.ended = not read
        self._bytes += read

    def _whole(self) -> Iterator[dict[str, Any]]:
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            if len(self._bytes) < _LENGTH.size + length:
                return
            text = bytes(self._bytes[_LENGTH.size : _LENGTH.size + length])
            del self._bytes[: _LENGTH.size + length]
            yield json.loads(text)


class Outbox:
    """What is to be sent on a descriptor that may not take it all at once.

    Args:
        descriptor: A socket's or pipe's, blocking or not.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._bytes = bytearray()

    @property
    def size(self) -> int:
        """How many bytes are waiting."""
        return len(self._bytes)

    def put(self, message: dict[str, Any]) -> None:
        """Add a message."""
        self._bytes += _framed(message)

    def flush(self) -> None:
        """Send what can be sent now; all of it where the descriptor blocks. Where the other side is gone, forget it."""
        try:
            while self._bytes:
                del self._bytes[: os.write(self.descriptor, self._bytes)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionError):
            self._bytes.clear()


def send(descriptor: int, message: dict[str, Any]) -> bool:
    """Send a message whole.

    Returns:
        Whether the other side is there to get it.
    """
    left = memoryview(_framed(message))
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except (BrokenPipeError, ConnectionError):
        return False
    return True


def _framed(message: dict[str, Any]) -> bytes:
    text = json.dumps(message).encode()
    return _LENGTH.pack(len(text)) + text
