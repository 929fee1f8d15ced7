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


@contextmanager
def server() -> Iterator[str]:
    """Start a server; give the SQLAlchemy URL of its empty database."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("needs the Debian package postgresql; `make servers` installs it")
    # Not below pytest's folder: the path of a socket has at most 107 characters, and nobody else may enter that one.
    folder = Path(tempfile.mkdtemp(prefix="mlcore-pg-"))
    try:
        _run(
            folder,
            str(binaries / "initdb"),
            "-D",
            "data",
            "-U",
            "mlcore",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        )
        options = f"-c listen_addresses='' -k {folder} -F"
        _run(folder, str(binaries / "pg_ctl"), "-D", "data", "-o", options, "-w", "-l", "log", "start")
        try:
            yield f"postgresql+psycopg://mlcore@/postgres?host={folder}"
        finally:
            _run(folder, str(binaries / "pg_ctl"), "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path | None:
    found = sorted(_BINARIES.glob("*/bin/pg_ctl"))
    if found:
        return found[-1].parent
    path = shutil.which("pg_ctl")
    return Path(path).resolve().parent if path else None


def _run(folder: Path, *command: str) -> None:
    other: dict[str, object] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        other = {"user": "nobody", "extra_groups": []}
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **other)
    assert done.returncode == 0, done.stderr.decode()
