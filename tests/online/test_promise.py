"""The promise in small worlds: what the online store answers at a time is the naive truth under the `served` clock.

Each world is materialised to a few boundaries, in any order and some of them twice; then every entity row is asked
for at a time whose own boundary is the greatest of those. The worlds are so small that corrections which move or
delete events, late events, windows that run empty, ties, nulls and the edges of TTL happen often. All worlds share one
file, each as a project of its own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.engine.views.snapshot import snapshot_at, snapshot_read
from mlflow_core.online.answer import Status
from mlflow_core.online.reader import Reader
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.plan.schema import view_schema
from mlflow_core.spec import FeatureView
from mlflow_core.testing.histories import History, random_history, read_under
from tests.online.writing import write_table
from tests.oracle.features import Oracle, agrees

SEED = 20131115
WORLDS = {False: 10, True: 40}  # by whether a view has latest values alone


def of_latest_values_alone(view: FeatureView) -> FeatureView:
    """The view without its windows: its rows carry the versions of their events, not of their boundary."""
    return FeatureView(
        view.name,
        entity=view.entity,
        source=view.source,
        columns=view.columns,
        features=view.latest,
        ttl=view.ttl,
        availability=view.availability,
    )


def differing(
    view: FeatureView, history: History, backend: SqliteBackend, random: Random, counted: Counter[str]
) -> list[str]:
    times = sorted(set(history.rows["event_timestamp"].cast(pa.int64()).to_pylist()))
    read = read_under(view, "served")
    schema = view_schema(view, history.events.schema)
    reader = Reader(RetrievalPlan((read,), (), read.features), {view.name: schema})
    oracle = Oracle(view, history.events, "served")
    functions = {window.name: window.function for window in view.windows}
    wrong: list[str] = []
    done: list[int] = []
    for t in times:
        assert view.availability is not None
        due = {view.availability.boundary(one) for one in times if one <= t} - set(done)
        todo = [*due, *random.sample(done, min(len(done), 1))]
        random.shuffle(todo)
        for boundary in todo:
            table = snapshot_at(history.events, snapshot_read(view), boundary).table
            write_table(backend, view, table, boundary, schema)
        done += due
        rows = [row for row in history.rows.to_pylist() if _us(row["event_timestamp"]) == t]
        asked = {key: [row[key] for row in rows] for key in view.keys} or {"any": [None] * len(rows)}
        found = reader.answer(asked, backend=backend, now_us=t)
        for i, row in enumerate(rows):
            for name, truth in oracle.answer([row[key] for key in view.keys], t).items():
                value, status = found.columns[name][i], found.statuses[name][i]
                function = functions.get(name)
                counted[status] += 1
                squared = function is not None and function.name == "std"
                if not agrees(truth, value, squared=squared):
                    wrong.append(f"{row} {name} at {t}: {value!r} ({status}), truth {truth}")
                if status is not Status.NOT_FOUND and (value is None) is (status is Status.PRESENT):
                    wrong.append(f"{row} {name} at {t}: {value!r} is {status}")
    return wrong


def _us(moment: object) -> int:
    return int(pa.scalar(moment, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py())


@pytest.mark.parametrize("latest_only", [False, True], ids=["windows and latest", "latest alone"])
def test_the_store_answers_the_truth_whatever_the_order_of_the_materialisations(
    tmp_path: Path, latest_only: bool
) -> None:
    random = Random(SEED)
    counted: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(WORLDS[latest_only]):
        history = random_history(random)
        view = of_latest_values_alone(history.view) if latest_only else history.view
        backend = SqliteBackend(tmp_path / "online.db", f"world {number}", FixedClock(0))
        wrong += differing(view, history, backend, random, counted)
        backend.close()
    print(f"\nseed {SEED}: {dict(counted)}")
    assert wrong[:3] == []
    assert all(counted[status] > 100 for status in Status)
