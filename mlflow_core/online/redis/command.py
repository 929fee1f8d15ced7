"""One Redis command before it is sent, and which key says where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mlflow_core.online.redis.scripts import Script

__all__ = ["Command", "call", "packed"]


class Command(NamedTuple):
    """A command.

    Attributes:
        key: The key by which a cluster finds its node.
        args: The command's name and its arguments.
    """

    key: bytes
    args: tuple[bytes, ...]


def call(script: Script, keys: Sequence[bytes], args: Sequence[bytes], *, whole: bool = True) -> Command:
    """Return the call of a script.

    Args:
        script: The script.
        keys: Its keys, at least one; in a cluster all of one slot.
        args: Its further arguments.
        whole: Whether to send its source, which Redis then knows by its digest, or the digest alone.
    """
    name = (b"EVAL", script.text) if whole else (b"EVALSHA", script.digest)
    return Command(keys[0], (*name, b"%d" % len(keys), *keys, *args))


def packed(args: Sequence[bytes]) -> bytes:
    """Return a command as it is sent."""
    import hiredis  # of the extra: whoever gets here has it

    sent: bytes = hiredis.pack_command(tuple(args))  # type: ignore[arg-type]  # its stub knows one argument only
    return sent
