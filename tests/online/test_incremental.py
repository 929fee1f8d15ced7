"""Runs that write only what can have changed leave a reader nothing to tell: a chain of them is one run of everything.

Small random worlds as everywhere. Each is materialised at random boundaries one after the other into one store, each
run from where the last finished one came; rows come into the source as the runs go on, some in time, some too late,
in files of their own or in one that is written anew; some runs die on the way. Another store is given everything at
the last boundary. Every entity is read from both, and held to the naive truth under the ``served`` clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.materialise import Ask, MaterialisationReport, materialise
from mlflow_core.engine.route import InProcess, Route
from mlflow_core.engine.sink import Sunk
from mlflow_core.engine.views.changes import Since
from mlflow_core.errors import StoreError
from mlflow_core.feast.packed_sink import PackedSink
from mlflow_core.online.answer import Answer
from mlflow_core.online.layout import versioned_by_boundary
from mlflow_core.online.reader import Reader
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.plan.schema import view_schema
from mlflow_core.spec import FeatureView
from mlflow_core.testing.histories import History, random_history, read_under
from tests.engine.worlds import at_path
from tests.online.test_promise import of_latest_values_alone
from tests.oracle.features import Oracle, agrees

SEED = 20261122
WORLDS = 25
KEYS = {"k": [1, 2, 3, -4, "x", "", "y", "é"], "m": ["p", "q", ""]}


@dataclass
class Dying:
    """A sink that writes some rows of a table and dies."""

    sink: PackedSink
    share: float

    def write(self, table: pa.Table) -> Sunk:
        self.sink.write(table.slice(0, int(table.num_rows * self.share)))
        raise StoreError("gone")

    def close(self) -> None:
        self.sink.close()


@dataclass
class World:
    """A world whose source fills as time goes on."""

    history: History
    schema: pa.Schema
    folder: Path
    random: Random

    @property
    def view(self) -> FeatureView:
        return self.history.view

    def arrivals(self, boundaries: list[int]) -> list[list[int]]:
        """Which rows come before which run: those that say when they were known in time, others whenever."""
        found: list[list[int]] = [[] for _ in boundaries]
        source, delay = self.view.source, int(self.view.availability.delay)
        times = self.history.events["t"].cast(pa.int64()).to_pylist()
        known = self.history.events["known"].cast(pa.int64()).to_pylist()
        for row, (t, told) in enumerate(zip(times, known, strict=True)):
            last = len(boundaries) - 1
            # Of latest values alone two events of one time and creation have one version: the first written stays.
            in_time = source.known_at is not None or not versioned_by_boundary(self.view)
            if in_time and t is not None:
                seen = t if told is None or source.known_at is None else max(t, told)
                last = next((n for n, b in enumerate(boundaries) if t <= b and seen <= b + delay), last)
            found[self.random.randint(0, last)].append(row)
        return found

    def fill(self, number: int, rows: list[int], *, anew: bool) -> None:
        """Put rows into a file of their own, or write all of them into one."""
        self.folder.mkdir(exist_ok=True)
        if anew and number:
            there = [pq.read_table(file) for file in sorted(self.folder.glob("*.parquet"))]
            for file in self.folder.glob("*.parquet"):
                file.unlink()
            table = pa.concat_tables([*there, self.history.events.take(pa.array(rows, pa.int64()))])
        else:
            table = self.history.events.take(pa.array(rows, pa.int64()))
        pq.write_table(table, self.folder / f"{number:03d}.parquet")

    def events(self) -> pa.Table:
        return pa.concat_tables(pq.read_table(file) for file in sorted(self.folder.glob("*.parquet")))

    def run(
        self,
        backend: SqliteBackend,
        boundary: int,
        since: Since | None,
        route: Route,
        dying: float | None = None,
    ) -> MaterialisationReport | None:
        sink: Any = PackedSink(backend, self.view, boundary, self.schema)
        if dying is not None:
            sink = Dying(sink, dying)
        [done] = materialise(
            [Ask(self.view, boundary, sink, since)], base=str(self.folder.parent), route=route
        )
        if done.failure is not None and dying is None:
            raise done.failure
        return None if done.failure is not None else done.report

    def answer(self, backend: SqliteBackend, t: int) -> tuple[list[list[Any]], Answer]:
        integer = pa.types.is_integer(self.history.events["k"].type)
        choices = [
            [one for one in KEYS[key] if key != "k" or isinstance(one, int) is integer]
            for key in self.view.keys
        ]
        rows = [list(row) for row in product(*choices)]
        asked: dict[str, list[Any]] = {
            key: [row[i] for row in rows] for i, key in enumerate(self.view.keys)
        } or {"any": [None]}
        read = read_under(self.view, "served")
        reader = Reader(RetrievalPlan((read,), (), read.features), {self.view.name: self.schema})
        return rows, reader.answer(asked, backend=backend, now_us=t)


def differing(world: World, chain: SqliteBackend, whole: SqliteBackend, t: int) -> list[str]:
    rows, ours = world.answer(chain, t)
    _, theirs = world.answer(whole, t)
    oracle = Oracle(world.view, world.events(), "served")
    functions = {window.name: window.function for window in world.view.windows}
    wrong = []
    for i, row in enumerate(rows):
        for name, truth in oracle.answer(row, t).items():
            squared = name in functions and functions[name].name == "std"
            value = ours.columns[name][i]
            place = f"{row} {name} at {t}"
            if not agrees(truth, value, squared=squared):
                wrong.append(f"{place}: {value!r}, truth {truth}")
            if not agrees(truth, theirs.columns[name][i], squared=squared):
                wrong.append(f"{place}: {theirs.columns[name][i]!r} of everything, truth {truth}")
            for what in ("statuses", "event_times"):
                one, other = getattr(ours, what)[name][i], getattr(theirs, what)[name][i]
                # A window's time is the boundary that its row was last written at, where its value was the same.
                same = one <= other if what == "event_times" and name in functions and one else one == other
                if not same:
                    wrong.append(f"{place}: {what} {one!r}, of everything {other!r}")
    return wrong


@pytest.mark.parametrize("by_buckets", [False, True], ids=["from memory", "by buckets"])
@pytest.mark.parametrize("latest_only", [False, True], ids=["windows and latest", "latest alone"])
def test_a_chain_of_runs_of_changes_reads_like_one_run_of_everything(
    tmp_path: Path, latest_only: bool, by_buckets: bool
) -> None:
    random = Random(SEED)
    counted: Counter[str] = Counter()
    wrong: list[str] = []
    route = InProcess(fits=0 if by_buckets else 1 << 30, cache=Cache(tmp_path / "cache"))
    for number in range(WORLDS):
        history = random_history(random, events=30, at_least=8)
        view = of_latest_values_alone(history.view) if latest_only else history.view
        history = at_path(replace(history, view=view), f"events {number}")
        schema = view_schema(view, history.events.schema)
        world = World(history, schema, tmp_path / f"events {number}", random)
        first = min(t for t in history.events["t"].cast(pa.int64()).to_pylist() if t is not None)
        times = sorted(first + random.randint(0, 120) for _ in range(8))
        boundaries = list(dict.fromkeys(view.availability.floor(time) for time in times))
        chain = SqliteBackend(tmp_path / "online.db", f"chain {number}", FixedClock(0))
        whole = SqliteBackend(tmp_path / "online.db", f"whole {number}", FixedClock(0))
        since: Since | None = None
        anew = random.random() < 0.3
        for n, (boundary, rows) in enumerate(zip(boundaries, world.arrivals(boundaries), strict=True)):
            if n == 0 and not rows:
                rows = [0]
            if rows:
                world.fill(n, rows, anew=anew)
            if random.random() < 0.25:
                counted["died"] += 1
                world.run(chain, boundary, since, route, dying=random.random())
                if boundary != boundaries[-1]:
                    continue
            report = world.run(chain, boundary, since, route)
            assert report is not None
            counted["all" if report.why_all else "changes"] += 1
            counted["skipped"] += report.skipped
            counted["written"] += report.rows - report.skipped
            since = Since(boundary, report.parts)
        world.run(whole, boundaries[-1], None, route)
        t = boundaries[-1] + int(view.availability.delay) + random.randrange(int(view.availability.every))
        wrong += [f"world {number}: {one}" for one in differing(world, chain, whole, t)]
        chain.close()
        whole.close()
    print(f"\nseed {SEED}: {dict(counted)}")
    assert wrong[:3] == []
    assert counted["changes"] > WORLDS
    assert counted["skipped"] > 50
    assert counted["died"] > 10
