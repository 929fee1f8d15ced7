"""Private stores: Redis and PostgreSQL servers on the loopback or a socket, in a folder of their own, ended by process id."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from benchmarks.online.process import Running, free_port, running

__all__ = ["Postgres", "RedisServer", "postgres_server", "redis_server"]


@dataclass(frozen=True)
class RedisServer:
    """A Redis server of our own."""

    running: Running

    @property
    def port(self) -> int:
        return self.running.port

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def cpu(self) -> float:
        """Return the CPU seconds that it has taken."""
        with self.client() as client:
            told = client.info("cpu")
        return float(told["used_cpu_user"] + told["used_cpu_sys"])

    def dataset_bytes(self) -> int:
        """Return the bytes that its data takes."""
        with self.client() as client:
            return int(client.info("memory")["used_memory_dataset"])


@contextmanager
def redis_server(folder: Path, *, port: int | None = None, durable: bool = False) -> Iterator[RedisServer]:
    """Start Redis with its defaults, but for snapshots; ``durable`` writes each command to disk before its answer."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise RuntimeError("redis-server is missing: make servers installs it")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    if durable:
        command += ["--appendonly", "yes", "--appendfsync", "always"]

    def ready() -> bool:
        try:
            with redis.Redis(port=port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    with running(command, port=port, log=folder / "redis.log", ready=ready) as started:
        yield RedisServer(started)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server of our own, reached by its socket."""

    folder: Path

    def create(self, database: str) -> None:
        with psycopg.connect(host=str(self.folder), user="bench", dbname="postgres", autocommit=True) as one:
            one.execute(f"CREATE DATABASE {database}")

    def size(self, database: str) -> int:
        """Return the bytes of a database's tables and indexes, Feast's and ours alike without the system's own."""
        with psycopg.connect(host=str(self.folder), user="bench", dbname=database) as one:
            (found,) = one.execute(
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n "
                "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' "
                "AND n.nspname <> 'information_schema'"
            ).fetchone() or (0,)
        return int(found)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start PostgreSQL with its defaults (durable commits), and end it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        raise RuntimeError("PostgreSQL is missing: make servers installs it")
    binaries = found[-1].parent
    # Not below the benchmark's folder: the path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    options = f"-c listen_addresses='' -k {folder}"
    try:
        _run(folder, str(binaries / "initdb"), "-D", "data", "-U", "bench", "-A", "trust", "-E", "UTF8")
        _run(folder, str(binaries / "pg_ctl"), "-D", "data", "-o", options, "-w", "-l", "log", "start")
        try:
            yield Postgres(folder)
        finally:
            _run(folder, str(binaries / "pg_ctl"), "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, *command: str) -> None:
    other: dict[str, object] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        other = {"user": "nobody", "extra_groups": []}
    done = subprocess.run(
        command, check=False, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **other
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
