"""Feast's ``connection_string`` of a Redis, read as an address: ``host:port,db=0,ssl=true,password=...``.

Feast hands the options to redis-py as they are, so they are named and typed as there: a value is JSON where it can be,
else text. Options that say how redis-py itself works (pools, retries) mean nothing here and are left out; what decides
where to go and how to log in is understood, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from mlflow_core.errors import ConfigError, nearest
from mlflow_core.online.redis.address import Address, Tls

__all__ = ["Connection", "parse_connection"]

_PORT = 6379
_OWN = frozenset(
    {
        "client_name",
        "decode_responses",
        "health_check_interval",
        "max_connections",
        "protocol",
        "read_from_replicas",
        "reinitialize_steps",
        "require_full_coverage",
        "retry_on_timeout",
        "single_connection_client",
        "skip_full_coverage_check",
        "socket_keepalive",
    }
)
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_KNOWN = (
    "db",
    "password",
    "username",
    "unix_socket_path",
    "socket_timeout",
    "socket_connect_timeout",
    "ssl",
    *_TLS,
)


class Connection(NamedTuple):
    """What a connection string says.

    Attributes:
        address: Where to go, and how to log in.
        timeout_s: How long to wait for an answer, or None where it does not say.
    """

    address: Address
    timeout_s: float | None


def parse_connection(text: str, *, cluster: bool = False) -> Connection:
    """Read a connection string.

    Args:
        text: The string, of Feast's ``online_store.connection_string``.
        cluster: Whether it names nodes of a cluster (``redis_type: redis_cluster``).

    Raises:
        ConfigError: It cannot be read; the message shows no password.

    Example:
        >>> parse_connection("cache.example:6380,db=2,ssl=true,password=secret").address.shown
        'rediss://cache.example:6380/2'
    """
    parts = text.split(",")
    options = {
        name: _value(value) for name, _, value in (part.partition("=") for part in parts if "=" in part)
    }
    hosts = tuple(_host(part) for part in parts if "=" not in part)
    for name in options:
        if name not in _KNOWN and name not in _OWN:
            raise _wrong(f'option "{name}" is not understood here', hint=nearest(name, _KNOWN))
    path = options.get("unix_socket_path")
    if not hosts and path is None:
        raise _wrong("no host is named", expected="host:port")
    if len(hosts) > 1 and not cluster:
        raise _wrong("several hosts are named", hint="For a cluster say redis_type: redis_cluster.")
    db = options.get("db", 0)
    if type(db) is not int or db < 0:
        raise _wrong("db is no number of a database", expected="0 or a positive integer")
    if cluster and db:
        raise _wrong(f"a cluster has no database {db}", hint="Leave it out.")
    address = Address(
        hosts=() if path is not None else hosts,
        path=_text(path),
        username=_text(options.get("username")),
        password=_text(options.get("password")),
        db=db,
        tls=_tls(options),
        cluster=cluster,
    )
    return Connection(address, _timeout(options))


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _text(value: Any) -> str | None:
    """Return an option as redis-py would send it: a password of digits has become a number by now."""
    return None if value is None else str(value)


def _host(text: str) -> tuple[str, int]:
    host, _, port = text.strip().partition(":")
    if not host or (port and not (port.isascii() and port.isdigit())):
        # Not shown: behind a comma in a password it is a part of it.
        raise _wrong("a part of it is neither a host and port nor an option", expected="host:port")
    return host, int(port or _PORT)


def _tls(options: Mapping[str, Any]) -> Tls | None:
    if not _flag(options, "ssl", default=False):
        return None
    required = options.get("ssl_cert_reqs", "required")
    if required not in ("required", "none", None):
        raise _wrong(f'ssl_cert_reqs is "{required}"', expected="required or none")
    return Tls(
        ca_certs=_text(options.get("ssl_ca_certs")),
        certfile=_text(options.get("ssl_certfile")),
        keyfile=_text(options.get("ssl_keyfile")),
        verified=required == "required",
        check_hostname=_flag(options, "ssl_check_hostname", default=True),
    )


def _flag(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(f"{name} is {value!r}", expected="true or false")
    return value


def _timeout(options: Mapping[str, Any]) -> float | None:
    value = options.get("socket_timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise _wrong("socket_timeout is no number of seconds", expected="a number over 0")
    return float(value)


def _wrong(what: str, *, expected: str | None = None, hint: str | None = None) -> ConfigError:
    return ConfigError(
        what,
        object="online_store.connection_string",
        place="feature_store.yaml",
        expected=expected,
        hint=hint,
    )
