"""What went wrong with a Redis, in one sentence with a hint: its own error replies, and those of the network."""

from __future__ import annotations

import ssl
from importlib.util import find_spec
from typing import Any

from mlflow_core.errors import ConfigError, StoreError, StoreTimeout
from mlflow_core.online.redis.address import Address

__all__ = ["HARMLESS", "check_installed", "lost", "refused", "timed_out", "unreachable"]

HARMLESS = "A part of the rows may be written; writing all of them again is harmless."

_HINTS = {
    "NOAUTH": "Put the password into the store's URL: redis://:password@host.",
    "WRONGPASS": "Look at the user and the password in the store's URL.",
    "NOPERM": "The user needs the commands HMGET, HGET, HSET, HSETNX, HDEL, HEXISTS, HGETALL, EVAL, EVALSHA, SCAN, "
    "UNLINK and PING on keys mlc:*.",
    "OOM": "Redis has reached its maxmemory: give it more, or erase something.",
    "READONLY": "This is a replica: name the primary.",
    "LOADING": "Redis has just started and reads its data: try again in a while.",
    "MASTERDOWN": "This replica has lost its primary: name the primary.",
    "MISCONF": "Redis cannot save to its disk and takes no writes: look at its log.",
    "BUSY": "A script keeps Redis busy: look at its log.",
    "MOVED": "This is a node of a cluster: say redis+cluster:// in the store's URL.",
    "CROSSSLOT": "This is a node of a cluster: say redis+cluster:// in the store's URL.",
    "CLUSTERDOWN": "Some slots of the cluster have no node that is up.",
    "WRONGTYPE": "Something else uses this project's keys (mlc:*): give it another database.",
    "DENIED": "Redis is in its protected mode: give it a password, or let it listen to this host.",
}


def check_installed() -> None:
    """Check that the packages are there that talk to Redis.

    Raises:
        ConfigError: They are not.
    """
    for package in ("hiredis", "redis"):
        if find_spec(package) is None:
            raise ConfigError(
                f"the Python package {package} is not installed",
                object="online store on Redis",
                hint="Say: pip install mlflow-core[redis]",
            )


def refused(reply: Any, address: Address, *, harm: str | None = None) -> StoreError:
    """Return what an error reply says.

    Args:
        reply: The error, whose text begins with Redis's code for it.
        address: The server.
        harm: What the call may have left behind.
    """
    text = str(reply)
    if address.password:
        text = text.replace(address.password, "***")
    code = text.partition(" ")[0]
    # "@user_script" and the digest behind it are ours, and tell nobody anything.
    sentence = text.partition(" script: ")[0].rstrip(". ")
    return StoreError(f"Redis refused: {sentence}", place=address.shown, hint=_joined(_HINTS.get(code), harm))


def unreachable(error: Exception, address: Address, *, harm: str | None = None) -> StoreError:
    """Return what an error of the network or of TLS says."""
    if isinstance(error, TimeoutError):
        return StoreTimeout("no connection to Redis in time", place=address.shown, hint=_joined(_UP, harm))
    if isinstance(error, ssl.SSLError):
        hint = "Look at the certificates, and whether this port of Redis speaks TLS."
        return StoreError(
            f"no encrypted connection to Redis: {error}", place=address.shown, hint=_joined(hint, harm)
        )
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StoreError(f"no connection to Redis: {text}", place=address.shown, hint=_joined(_UP, harm))


def lost(address: Address, why: object = None, *, harm: str | None = None) -> StoreError:
    """Return the error of a connection that ended while an answer was awaited."""
    text = "Redis closed the connection" if why is None else f"the connection to Redis was lost: {why}"
    return StoreError(text, place=address.shown, hint=_joined("It may be restarting: try again.", harm))


def timed_out(address: Address, timeout_s: float, *, harm: str | None = None) -> StoreTimeout:
    """Return the error of an answer that did not come."""
    return StoreTimeout(
        f"Redis gave no answer within {timeout_s:g} s", place=address.shown, hint=_joined(harm)
    )


_UP = "Is it running, and is the address right?"


def _joined(*hints: str | None) -> str | None:
    return " ".join(hint for hint in hints if hint) or None
