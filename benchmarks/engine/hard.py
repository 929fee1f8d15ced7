"""Hard data: ties, expired and late values, corrections, repeated entity rows; wrong or lost values are counted.

The truth is a plain loop over all events for each entity row, written here beside the rules and from nobody's code.
Peers are asked as their documentation says: Feast's stores are told the column that orders versions and filter by
it under clock ``known``, polars sorts by it. What a tool has no way to say it is not told, and gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engine.data import DAY, START, TIME, key_ids, write_rows
from benchmarks.engine.equal import wrong_or_lost
from benchmarks.engine.job import Events, Job
from benchmarks.engine.measured import run_here
from benchmarks.results import Row

__all__ = ["PEERS", "hard_rows"]

OURS = ("ours in process", "ours")
PEERS = ("polars", "DuckDB", "Feast Dask", "Feast DuckDB")
SPAN = 30 * DAY
HOUR = DAY // 24
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class History:
    """Events and entity rows; times in microseconds since epoch, UTC.

    Attributes:
        key, time, known, created, event_id, value: Of events, (n_events,).
        asked_key, asked: Of entity rows, (n_rows,).
    """

    key: Array
    time: Array
    known: Array
    created: Array
    event_id: Array
    value: Array
    asked_key: Array
    asked: Array


def hard_rows(folder: Path, n: int, *, seed: int, ours: Sequence[str] = OURS) -> list[Row]:
    """Count each peer's wrong or lost values, and ours, for each fault of the data.

    Args:
        folder: For the data.
        n: How many events, and how many entity rows.
        seed: Of the data.
        ours: Our routes; the worst of them is counted.
    """
    jobs, truths = [], []
    for name, (make, rules) in FAULTS.items():
        history = make(_plain(n, np.random.default_rng(seed)), np.random.default_rng(seed + 1))
        job = replace(_written(history, folder / name.replace(" ", "-")), **rules)
        jobs.append(job)
        truths.append(truth(history, job))
    wrong = {
        name: [
            wrong_or_lost(result.out / "cold", "value", right)
            for result, right in zip(run_here(name, jobs), truths, strict=True)
        ]
        for name in (*ours, *PEERS)
    }
    return [
        # None of ours is wrong, or the run fails: there is no ratio to take.
        Row(
            f"hard: {fault}, {n:,} x {n:,}",
            "wrong or lost",
            float(max(wrong[mine][number] for mine in ours)),
            peer,
            float(wrong[peer][number]),
            None,
        )
        for number, fault in enumerate(FAULTS)
        for peer in PEERS
    ]


def truth(history: History, job: Job) -> Array:
    """Return each entity row's value by a plain loop, NaN where there is none."""
    h, answers = history, np.full(len(history.asked), np.nan)
    known = np.maximum(h.known, h.time)
    for row, (key, t) in enumerate(zip(h.asked_key, h.asked, strict=True)):
        best: tuple[int, int, int] | None = None
        visible = [
            e for e in range(len(h.key)) if h.time[e] <= t and (job.clock == "event" or known[e] <= t)
            and (job.identity or h.key[e] == key)
        ]  # fmt: skip
        if job.identity:
            newest: dict[int, int] = {}
            for e in visible:
                other = newest.get(h.event_id[e])
                if other is None or (h.created[e], e) > (h.created[other], other):
                    newest[h.event_id[e]] = e
            visible = [e for e in newest.values() if h.key[e] == key]
        for e in visible:
            order = (h.time[e], h.created[e] if job.created else 0, e)
            if best is None or order > best:
                best = order
        expired = best is not None and job.ttl_hours is not None and t - best[0] > job.ttl_hours * HOUR
        if best is not None and not expired:
            answers[row] = h.value[best[2]]
    return answers


def _plain(n: int, rng: np.random.Generator) -> History:
    """Events every few minutes, known at once; one for each key first."""
    n_keys = max(n // 40, 5)
    time = START + np.arange(n, dtype=np.int64) * (SPAN // n)
    return History(
        key=np.concatenate([np.arange(n_keys), rng.integers(0, n_keys, n - n_keys)]),
        time=time,
        known=time,
        created=time,
        event_id=np.arange(n),
        value=rng.random(n) * 100,
        asked_key=rng.integers(0, n_keys, n),
        asked=START + SPAN // 10 + rng.permutation(n).astype(np.int64) * (SPAN * 9 // 10 // n) + 1,
    )


def _ties(h: History, rng: np.random.Generator) -> History:
    """Events share a few times, and differ in when they were created; rows come in no order."""
    grid = START + rng.integers(0, 100, len(h.time)) * (SPAN // 100)
    return replace(h, time=grid, known=grid, created=grid + rng.permutation(len(grid)) + 1)


def _expired(h: History, rng: np.random.Generator) -> History:
    """Half the entity rows ask long after their key's last event."""
    return replace(h, asked=h.asked + rng.integers(0, 2, len(h.asked)) * 40 * DAY)


def _late(h: History, rng: np.random.Generator) -> History:
    """A third of the events are known up to three days later, so that known times come out of order."""
    late = np.where(rng.random(len(h.time)) < 0.33, rng.integers(0, 3 * DAY, len(h.time)), 0)
    return replace(h, known=h.time + late, created=h.time + late)


def _corrected(h: History, rng: np.random.Generator) -> History:
    """A third of the events are corrected later: another value, and an earlier time."""
    again = np.flatnonzero(rng.random(len(h.time)) < 0.33)
    at = h.time[again] + rng.integers(HOUR, 3 * DAY, len(again))
    moved = h.time[again] - rng.integers(0, DAY, len(again))
    return replace(
        h,
        key=np.concatenate([h.key, h.key[again]]),
        time=np.concatenate([h.time, moved]),
        known=np.concatenate([h.known, at]),
        created=np.concatenate([h.created, at]),
        event_id=np.concatenate([h.event_id, again]),
        value=np.concatenate([h.value, rng.random(len(again)) * 100]),
    )


def _repeated(h: History, rng: np.random.Generator) -> History:
    """A third of the entity rows are there twice."""
    place = rng.integers(0, len(h.asked) * 2 // 3, len(h.asked))
    return replace(h, asked=h.asked[place], asked_key=h.asked_key[place])


FAULTS: dict[str, tuple[Callable[[History, np.random.Generator], History], dict[str, Any]]] = {
    "ties": (_ties, {"created": True}),
    "expired": (_expired, {"ttl_hours": 72}),
    "late and out of order": (_late, {"clock": "known"}),
    "corrections": (_corrected, {"clock": "known", "created": True, "identity": True}),
    "repeated entity rows": (_repeated, {}),
}


def _written(h: History, folder: Path) -> Job:
    (folder / "events").mkdir(parents=True)
    columns = {name: pa.array(getattr(h, name), TIME) for name in ("time", "known", "created")}
    table = pa.table({"key": key_ids(h.key), **columns, "event_id": h.event_id, "value": h.value})
    pq.write_table(table, folder / "events" / "part-000.parquet")
    rows = write_rows(folder / "rows.parquet", key_ids(h.asked_key), h.asked)
    return Job((Events("events", str(folder / "events"), ("value",)),), str(rows), str(folder))
