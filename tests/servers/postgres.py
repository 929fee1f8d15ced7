"""A real PostgreSQL server for tests: its own data folder and socket, no network, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BINARIES = Path("/usr/lib/postgresql")


class PostgresServer:
    """A server that can be stopped and started again on the same data.

    Attributes:
        folder: Where its data, its socket and its log are.
        url: The URL of its empty database, for its superuser.
        guarded_url: The same for a user that must give a password, if a test makes one of that name.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self.url = f"postgresql://mlcore@/postgres?host={folder}"
        self.guarded_url = f"postgresql://guarded:{{password}}@/postgres?host={folder}"
        self._run("initdb", "-D", "data", "-U", "mlcore", "-A", "trust", "-E", "UTF8", "--no-sync")
        access = folder / "data" / "pg_hba.conf"
        access.write_text("local all guarded scram-sha-256\n" + access.read_text())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses='' -k {self.folder} -F"
        self._run("pg_ctl", "-D", "data", "-o", options, "-w", "-l", "log", "start")

    def stop(self) -> None:
        """End it at once, as a crash would: whoever is connected loses the connection."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        other: dict[str, object] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, "nobody")
            other = {"user": "nobody", "extra_groups": []}
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **other
        )
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server; it ends with the block."""
    binaries = _binaries()
    if binaries is None:
        missing = "needs the Debian package postgresql; `make servers` installs it"
        # Where every test must run a server that is not there must not look like success.
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    # Not below pytest's folder: the path of a socket has at most 107 characters, and nobody else may enter that one.
    folder = Path(tempfile.mkdtemp(prefix="mlcore-pg-"))
    try:
        server = PostgresServer(folder, binaries)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def server() -> Iterator[str]:
    """Start a server; give the SQLAlchemy URL of its empty database."""
    with postgres_server() as started:
        yield started.url.replace("postgresql://", "postgresql+psycopg://")


def _binaries() -> Path | None:
    found = sorted(_BINARIES.glob("*/bin/pg_ctl"))
    if found:
        return found[-1].parent
    path = shutil.which("pg_ctl")
    return Path(path).resolve().parent if path else None
