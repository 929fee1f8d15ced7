"""Where a Redis is and how to log in: what the URL of an online store says, without opening anything.

``redis://[[user]:password@]host[:port][/db]`` and ``rediss://`` (TLS), ``unix://[[user]:password@]/path[?db=n]``,
and ``redis+cluster://host:port,host:port`` or ``rediss+cluster://`` for a cluster, of which any nodes may be named.
TLS takes ``?ssl_ca_certs=``, ``ssl_certfile=``, ``ssl_keyfile=`` (files), ``ssl_cert_reqs=required|none`` and
``ssl_check_hostname=true|false``, named as redis-py names them. What is shown of an address never has its password.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from mlflow_core.errors import ConfigError, StoreError, nearest

__all__ = ["Address", "Tls", "parse_url"]

_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
_PORT = 6379
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Tls:
    """How a server's certificate is checked, and which one is shown to it.

    Attributes:
        ca_certs: File of the authorities that are trusted; the system's own where None.
        certfile: File of this client's certificate.
        keyfile: File of its key.
        verified: Whether the server's certificate is checked at all.
        check_hostname: Whether it must be made out to the host that was named.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verified: bool = True
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Return what a connection is wrapped in.

        Raises:
            StoreError: A file cannot be read or holds no certificate.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
            context.check_hostname = self.verified and self.check_hostname
            if not self.verified:
                context.verify_mode = ssl.CERT_NONE
            if self.certfile:
                context.load_cert_chain(self.certfile, self.keyfile)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(name for name in (self.ca_certs, self.certfile, self.keyfile) if name)
            raise StoreError(f"a certificate or key cannot be loaded: {error}", place=files) from error
        return context


@dataclass(frozen=True)
class Address:
    """A Redis server, or nodes of a cluster, and how to log in.

    Attributes:
        hosts: Host and port of the server; of any of its nodes for a cluster; none for a socket.
        path: The socket's file, or None.
        username: The user, None for the default one.
        password: Their password, or None.
        db: Number of the database; 0 in a cluster.
        tls: How connections are encrypted, or None.
        cluster: Whether this is a cluster.
    """

    hosts: tuple[tuple[str, int], ...]
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: Tls | None = None
    cluster: bool = False

    @property
    def shown(self) -> str:
        """The address as a message may show it: without user and password."""
        if self.path is not None:
            return f"unix://{self.path}" + (f"?db={self.db}" if self.db else "")
        scheme = ("rediss" if self.tls else "redis") + ("+cluster" if self.cluster else "")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{scheme}://{hosts}" + (f"/{self.db}" if self.db else "")

    def greetings(self) -> list[tuple[bytes, ...]]:
        """Return the commands that a fresh connection starts with; each must be answered with OK."""
        commands: list[tuple[bytes, ...]] = []
        if self.password is not None:
            user = () if self.username is None else (self.username.encode(),)
            commands.append((b"AUTH", *user, self.password.encode()))
        if self.db:
            commands.append((b"SELECT", b"%d" % self.db))
        return commands


def parse_url(url: str) -> Address:
    """Read an address from its URL; see the module for its forms.

    Raises:
        ConfigError: It is none of them; the message does not show a password.

    Example:
        >>> parse_url("rediss://:secret@cache.example:6380/2").shown
        'rediss://cache.example:6380/2'
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in _SCHEMES:
        text = f'"{scheme}" is no scheme of a Redis URL' if found else "this is no Redis URL"
        raise ConfigError(text, expected=" or ".join(f"{known}://" for known in _SCHEMES))
    cluster = scheme.endswith("+cluster")
    where, _, query = rest.partition("?")
    login, _, where = where.rpartition("@")
    shown = f"{scheme}://{where}"
    if "@" in query:  # a password with an unescaped question mark would be shown as an option
        raise ConfigError("a Redis URL has an @ behind its ?", hint="Write ? in a password as %3F, @ as %40.")
    username, has_password, password = login.partition(":")
    options = dict(parse_qsl(query, keep_blank_values=True))
    tls = _tls(options, shown) if scheme.startswith("rediss") else None
    db = options.pop("db", "")
    if options:
        name = min(options)
        known = ["db", *(_TLS_OPTIONS if tls else ())]
        raise ConfigError(f'"{name}" is no option here', place=shown, hint=nearest(name, known))
    path: str | None = None
    hosts: tuple[tuple[str, int], ...] = ()
    if scheme == "unix":
        path = unquote(where)
    else:
        named, _, number = where.partition("/")
        hosts = tuple(_host(text, shown) for text in named.split(","))
        db = db or number
    if not (db.isascii() and db.isdigit()) and db:
        raise ConfigError(
            f'"{db}" is no number of a database', place=shown, expected="0 or a positive integer"
        )
    if cluster and int(db or 0):
        raise ConfigError(f"a cluster has no database {db}", place=shown, hint="Leave it out.")
    if len(hosts) > 1 and not cluster:
        raise ConfigError(
            "several hosts were given", place=shown, hint=f"For a cluster say {scheme}+cluster://."
        )
    return Address(
        hosts=hosts,
        path=path,
        username=unquote(username) or None,
        password=unquote(password) if has_password else None,
        db=int(db or 0),
        tls=tls,
        cluster=cluster,
    )


_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


def _tls(options: dict[str, str], shown: str) -> Tls:
    required = options.pop("ssl_cert_reqs", "required")
    if required not in ("required", "none"):
        raise ConfigError(f'ssl_cert_reqs is "{required}"', place=shown, expected="required or none")
    checked = options.pop("ssl_check_hostname", "true").lower()
    if checked not in _FLAGS:
        raise ConfigError(f'ssl_check_hostname is "{checked}"', place=shown, expected="true or false")
    files = {name: options.pop(f"ssl_{name}", None) for name in ("ca_certs", "certfile", "keyfile")}
    return Tls(**files, verified=required == "required", check_hostname=_FLAGS[checked])


def _host(text: str, shown: str) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{text}")
        if split.hostname:
            return split.hostname, split.port or _PORT
    except ValueError as error:
        raise ConfigError(f"{text!r} is no host and port: {error}", place=shown) from None
    raise ConfigError("no host is named", place=shown, expected="host or host:port")
