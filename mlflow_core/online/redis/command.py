"""One Redis command before it is sent, and which key says where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_core.online.redis.scripts import Script

__all__ = ["Command", "bulk", "bulks", "call", "call_head", "packed"]


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


def call_head(script: Script, n_keys: int, n_args: int, *, whole: bool = True) -> bytes:
    """Return what a packed call of a script begins with; its keys and arguments follow as bulk strings."""
    name, source = (b"EVAL", script.text) if whole else (b"EVALSHA", script.digest)
    number = b"%d" % n_keys
    lengths = (3 + n_keys + n_args, len(name), name, len(source), source, len(number), number)
    return b"*%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % lengths


def bulk(args: Sequence[bytes]) -> bytes:
    """Return arguments as they are sent."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args])


def bulks(records: npt.NDArray[Any], prefix: bytes = b"") -> npt.NDArray[Any]:
    """Return arguments of one length as they are sent, side by side.

    Args:
        records: Each one's bytes; shape (n,).
        prefix: What each of them begins with.

    Returns:
        One record an argument; shape (n,).
    """
    width = records.itemsize
    head = b"$%d\r\n%b" % (len(prefix) + width, prefix)
    sent = np.empty(len(records), [("head", f"V{len(head)}"), ("arg", f"V{width}"), ("end", "V2")])
    sent["head"], sent["arg"], sent["end"] = np.void(head), records.view(f"V{width}"), np.void(b"\r\n")
    return sent


def packed(args: Sequence[bytes]) -> bytes:
    """Return a command as it is sent."""
    import hiredis  # of the extra: whoever gets here has it

    sent: bytes = hiredis.pack_command(tuple(args))  # type: ignore[arg-type]  # its stub knows one argument only
    return sent
