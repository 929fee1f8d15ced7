"""Real Redis servers for tests: own port on the loopback, own folder, nothing saved, gone afterwards."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.servers.certificates import Certificates

_PATIENCE_S = 20


class Server:
    """One server, which can be killed, started again, and stopped in its tracks.

    Args:
        folder: Its folder.
        options: Further arguments of ``redis-server``.
        scheme: How clients speak to it: ``redis``, ``rediss`` or ``unix``.
    """

    def __init__(self, folder: Path, options: Sequence[str] = (), scheme: str = "redis") -> None:
        self.folder = folder
        self.port = _free_port()
        self.scheme = scheme
        self.options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its database 0."""
        if self.scheme == "unix":
            return f"unix://{self.folder}/redis.sock"
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        found = shutil.which("redis-server")
        assert found, "redis-server is missing: `make servers` installs it"
        port = (
            ["--port", "0", "--tls-port", str(self.port)]
            if self.scheme == "rediss"
            else ["--port", str(self.port)]
        )
        command = [
            found,
            *port,
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            "--save",
            "",
            *self.options,
        ]
        if self.scheme == "unix":
            command += ["--unixsocket", str(self.folder / "redis.sock")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE_S
        while not self._listens():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a plain client, for a look behind the backend."""
        return redis.Redis(host="127.0.0.1", port=self.port)

    def flush(self) -> None:
        """Empty it."""
        with self.client() as client:
            client.flushall()

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(1)
                if self.scheme != "rediss":
                    connection.sendall(b"PING\r\n")
                    return not connection.recv(64).startswith(b"-LOADING")
        except OSError:
            return False
        return True


class Cluster:
    """Three servers that share the slots.

    Args:
        servers: The servers.
        tls_ports: Where they speak TLS as well, if they do.
    """

    def __init__(self, servers: Sequence[Server], tls_ports: Sequence[int] = ()) -> None:
        self.servers = tuple(servers)
        self.tls_ports = tuple(tls_ports)

    @property
    def url(self) -> str:
        """The URL that names two of them."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])

    @property
    def tls_url(self) -> str:
        """The URL that names two of them by the ports that speak TLS."""
        return "rediss+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.tls_ports[:2])

    def flush(self) -> None:
        """Empty all of them."""
        for server in self.servers:
            server.flush()


@contextmanager
def redis_server(*options: str, scheme: str = "redis") -> Iterator[Server]:
    """Start a server."""
    # Not below pytest's folder: the path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="mlcore-redis-"))
    server = Server(folder, options, scheme)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@contextmanager
def redis_cluster(certificates: Certificates | None = None) -> Iterator[Cluster]:
    """Start three servers and make them one cluster; with certificates they speak TLS on ports beside."""
    with ExitStack() as stack:
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]
        tls_ports = [_free_port() for _ in range(3)] if certificates else []
        if certificates:
            options += ["--tls-cert-file", certificates.cert, "--tls-key-file", certificates.key]
            options += ["--tls-ca-cert-file", certificates.ca, "--tls-cluster", "yes"]
        tls = [("--tls-port", str(port)) for port in tls_ports] or [()] * 3
        servers = [stack.enter_context(redis_server(*options, *tls[i])) for i in range(3)]
        clients = [stack.enter_context(server.client()) for server in servers]
        for i, client in enumerate(clients):
            first, last = i * 16384 // 3, (i + 1) * 16384 // 3 - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
        for client in clients[1:]:
            client.execute_command("CLUSTER MEET", "127.0.0.1", (tls_ports or [servers[0].port])[0])
        deadline = time.monotonic() + _PATIENCE_S
        while not all(_is_whole(client) for client in clients):
            assert time.monotonic() < deadline, "the cluster does not come together"
            time.sleep(0.05)
        yield Cluster(servers, tls_ports)


def _is_whole(client: redis.Redis) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


def _free_port() -> int:
    # A cluster's node takes the port 10,000 above as well.
    for _ in range(100):
        with socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no free port")
