"""Repositories that are applied and materialised, each in a process of its own, measured, once a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.online.hard import Hard, make_hard
from benchmarks.online.process import run_to_end
from benchmarks.online.repository import Repository, Side, make_repository
from benchmarks.online.stores import Postgres, RedisServer, postgres_server, redis_server
from benchmarks.online.world import VIEWS, World, make_world

__all__ = ["MISSING", "Prepared", "Written"]

WITHIN = 1_200.0
MISSING = "not there: "


@dataclass(frozen=True)
class Written:
    """One materialisation of the benign views.

    Attributes:
        repository: What was written, and how it is configured.
        seconds: Wall time of ``FeatureStore.materialize``.
        before: Resident bytes when it began.
        peak: Most resident bytes until it ended.
        stored: Bytes that the store took, the small hard view included.
        differing: Cells that are not what the files say, of some read back.
        failure: Why there is nothing of the above, or "".
    """

    repository: Repository
    seconds: float = 0.0
    before: int = 0
    peak: int = 0
    stored: int = 0
    differing: int = 0
    failure: str = ""


@dataclass
class Prepared:
    """The world, the stores and what was written to them; everything ends with ``close``."""

    scratch: Path
    n_entities: int
    said: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
    _stack: ExitStack = field(default_factory=ExitStack)
    _written: dict[tuple[Side, str], Written] = field(default_factory=dict)
    _redis: dict[Side, RedisServer] = field(default_factory=dict)
    _postgres: Postgres | None = None

    def __post_init__(self) -> None:
        self.world: World = make_world(self.scratch / "world", self.n_entities)
        self.hard: Hard = make_hard(self.scratch / "hard")

    def close(self) -> None:
        """End the stores."""
        self._stack.close()

    def redis(self, side: Side) -> RedisServer:
        """Return the Redis of a side: each has one to itself."""
        if side not in self._redis:
            server = redis_server(self.scratch / f"redis-{side}")
            self._redis[side] = self._stack.enter_context(server)
        return self._redis[side]

    def written(self, side: Side, store: str) -> Written:
        """Apply and materialise, or return what came of it before."""
        if (side, store) not in self._written:
            self.said(f"  {side} writes {self.n_entities:,} entities x {len(VIEWS)} views to {store} ...")
            self._written[side, store] = one = self._write(side, store)
            told = (
                one.failure
                or f"{one.seconds:.2f} s, peak {one.peak >> 20} MiB, {one.stored >> 20} MiB stored"
            )
            self.said(f"    {told}")
        return self._written[side, store]

    def front(self) -> Repository:
        """Return our server's repository in front of the Redis that Feast wrote."""
        theirs = self.written("feast", "redis").repository
        port = str(self.redis("feast").port)
        return make_repository(self.scratch, "front", "redis", port, registry=theirs.repo / "registry.db")

    def _write(self, side: Side, store: str) -> Written:
        repository = make_repository(self.scratch, side, store, self._where(side, store))
        empty = self._stored(side, store)
        try:
            answer = self._run(repository)
        except RuntimeError as error:
            return Written(repository, failure=f"{MISSING}{error}")
        return Written(
            repository, answer["seconds"], answer["before"], answer["peak"], self._stored(side, store) - empty
        )

    def _run(self, repository: Repository) -> dict[str, Any]:
        folder, order = repository.root, repository.root / "order.json"
        told = {"world": str(self.world.folder), "entities": self.n_entities, "hard": str(self.hard.folder)}
        order.write_text(json.dumps({**told, "repo": str(repository.repo)}))
        command = [sys.executable, "-m", "benchmarks.online.writer", order]
        run_to_end(command, log=folder / "log.txt", within=WITHIN)
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
        return answer

    def _where(self, side: Side, store: str) -> str:
        if store == "redis":
            return str(self.redis(side).port)
        if store == "sqlite":
            return str(self.scratch / f"{side}-online.db")
        if self._postgres is None:
            self._postgres = self._stack.enter_context(postgres_server())
        self._postgres.create(side)
        return f"{self._postgres.folder}/{side}"

    def _stored(self, side: Side, store: str) -> int:
        if store == "redis":
            return self.redis(side).dataset_bytes()
        if store == "sqlite":
            file = self.scratch / f"{side}-online.db"
            parts = (file, file.with_name(f"{file.name}-wal"))
            return sum(one.stat().st_size for one in parts if one.exists())
        assert self._postgres is not None
        return self._postgres.size(side)
