"""Whatever is written, in any order and batches and again: what is read is each key's row of the greatest version.

On every backend, for keys and features of every type, with nulls, unknown keys and TTL. The truth beside it is a
dictionary.
"""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_core.config.clock import FixedClock
from mlflow_core.online.answer import Answer, Status
from mlflow_core.online.backend import OnlineBackend
from mlflow_core.online.keys import KEY_TYPES
from mlflow_core.online.postgres import PostgresBackend
from mlflow_core.online.reader import Reader
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.online.write import CREATED, EVENT_TIME
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.spec import Agg, DType, Entity, FeatureService, FeatureView, ParquetSource
from tests.online.of_every_type import ITEMS, same, to_arrow, values_of
from tests.online.writing import write_table
from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_server

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
NOW = 15_000 * 24 * HOUR
TTL = 2 * HOUR
# Times around the edge of the TTL, where one microsecond decides, and times after now.
EVENTS = st.sampled_from([NOW - TTL + late for late in (-HOUR, -1, 0, 1, HOUR)]) | st.integers(
    NOW - HOUR, NOW + HOUR
)
CREATIONS = st.integers(NOW - 2, NOW + 2)
BOUNDARIES = st.sampled_from([NOW - HOUR, NOW, NOW + 1])
OPENED = {
    "sqlite": lambda place, project: SqliteBackend(place, project, FixedClock(NOW)),
    "redis": lambda place, project: RedisBackend(place, project, FixedClock(NOW)),
    "postgres": lambda place, project: PostgresBackend(place, project, FixedClock(NOW)),
}
_worlds = itertools.count()


class Written(NamedTuple):
    """A row as a materialisation writes it; ``event`` is None where no event stands behind it."""

    key: tuple[Any, ...]
    values: tuple[Any, ...]
    event: int | None
    created: int


class World(NamedTuple):
    """A view, its columns' types, and what is written of it, batch by batch: (boundary, rows)."""

    view: FeatureView
    keys: tuple[DType, ...]
    features: tuple[DType, ...]
    batches: list[tuple[int, list[Written]]]
    asked: list[tuple[Any, ...]]


@st.composite
def worlds(draw) -> World:
    keys = tuple(draw(st.lists(st.sampled_from(KEY_TYPES), max_size=3)))
    features = tuple(draw(st.lists(st.sampled_from(list(DType)), min_size=1, max_size=5)))
    by_boundary, windows = draw(st.sampled_from([(False, False), (True, False), (True, True)]))
    values = [draw(some_of(dtype)) for dtype in keys]
    pool = draw(st.lists(st.tuples(*map(st.sampled_from, values)), min_size=1, max_size=4))
    nulls = [
        tuple(None if i == null else value for i, value in enumerate(pool[0])) for null in range(len(keys))
    ]
    a_key = st.sampled_from([*pool, *nulls])
    a_row = st.builds(
        Written,
        key=a_key,
        values=st.tuples(*map(values_of, features)),
        event=st.none() | EVENTS if windows else EVENTS,
        created=CREATIONS,
    )
    if by_boundary:
        # One row a key and boundary; a boundary that is computed again gives what it gave.
        once = {
            boundary: draw(st.lists(a_row, min_size=1, max_size=5, unique_by=lambda row: row.key))
            for boundary in draw(st.lists(BOUNDARIES, min_size=1, max_size=3, unique=True))
        }
        batches = list(once.items())
    else:
        rows = draw(
            st.lists(a_row, min_size=4, max_size=14, unique_by=lambda row: (row.key, row.event, row.created))
        )
        cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
        batches = [(NOW, rows[a:b]) for a, b in itertools.pairwise([0, *cuts, len(rows)])]
    batches += draw(st.lists(st.sampled_from(batches), max_size=3))
    return World(
        view=view_of(keys, features, by_boundary=by_boundary, windows=windows),
        keys=keys,
        features=(*features, DType.INT64) if windows else features,
        batches=draw(st.permutations(batches)),
        asked=draw(st.lists(a_key, min_size=min(4, 2 * len(keys)), max_size=14)),
    )


def some_of(dtype: DType) -> st.SearchStrategy[list[Any]]:
    """A few values, so that keys meet; and what would meet if a store spelled them carelessly."""
    odd = {DType.STRING: ["", "a", "1", "a:b"], DType.BYTES: [b"", b"a", b"\0\xff"]}.get(dtype, [])
    return st.lists(ITEMS[dtype], min_size=1, max_size=3).map(lambda values: values + odd)


def view_of(
    keys: tuple[DType, ...], features: tuple[DType, ...], *, by_boundary: bool, windows: bool
) -> FeatureView:
    source = ParquetSource("events", path="events.parquet", event_time="at")
    return FeatureView(
        "things",
        entity=Entity("thing", keys=[f"k{i}" for i in range(len(keys))]) if keys else None,
        source=source.model_copy(update={"event_id": "id"}) if by_boundary else source,
        features=[
            *(f"f{i}" for i in range(len(features))),
            *([Agg("*", "count", over="3h", name="n")] if windows else []),
        ],
        ttl="2h",
    )


def table_of_rows(world: World, rows: list[Written]) -> pa.Table:
    counted = len(world.view.windows)
    columns = {f"k{i}": to_arrow([row.key[i] for row in rows], dtype) for i, dtype in enumerate(world.keys)}
    latest = world.features[: len(world.features) - counted]
    columns |= {f"f{i}": to_arrow([row.values[i] for row in rows], dtype) for i, dtype in enumerate(latest)}
    if counted:
        columns["n"] = pa.array([row.created for row in rows], pa.int64())
    times = to_arrow([row.event for row in rows], DType.TIMESTAMP)
    created = to_arrow([row.created for row in rows], DType.TIMESTAMP)
    return pa.table(columns | {EVENT_TIME: times, CREATED: created})


def truth(world: World) -> dict[tuple[Any, ...], tuple[tuple[int, int], Written]]:
    """The row of the greatest version by key."""
    greatest: dict[tuple[Any, ...], tuple[tuple[int, int], Written]] = {}
    by_boundary = world.view.source.event_id is not None
    for boundary, rows in world.batches:
        for row in rows:
            version = (boundary, 0) if by_boundary else (row.event, row.created)
            if None not in row.key and (row.key not in greatest or version > greatest[row.key][0]):
                greatest[row.key] = (version, row)
    return greatest


def expected(world: World) -> dict[str, list[tuple[Any, str, int | None]]]:
    """Value, status and time of each feature for the keys asked, by the words of the semantics."""
    greatest = truth(world)
    answers: dict[str, list[tuple[Any, str, int | None]]] = {name: [] for name in world.view.feature_names}
    for key in world.asked:
        version, row = greatest.get(key, ((0, 0), None))
        for i, (name, dtype) in enumerate(zip(answers, world.features, strict=True)):
            window = name == "n"
            if row is None:
                answers[name].append((0 if window else None, "NOT_FOUND", None))
            elif window:
                answers[name].append((row.created, "PRESENT", version[0]))
            elif row.event is not None and row.event < NOW - TTL:
                answers[name].append((None, "OUTSIDE_MAX_AGE", row.event))
            else:
                value = shown(row.values[i], dtype)
                answers[name].append((value, "NULL_VALUE" if value is None else "PRESENT", row.event))
    return answers


def shown(value: Any, dtype: DType) -> Any:
    if dtype.item is not DType.TIMESTAMP or value is None:
        return value
    if isinstance(value, list):
        return [shown(one, DType.TIMESTAMP) for one in value]
    return EPOCH + timedelta(microseconds=value)


@pytest.fixture(scope="module", params=sorted(OPENED))
def open_world(request, tmp_path_factory):
    """Open a backend for a project that nobody has used, on one store for all of them."""
    with ExitStack() as stack:
        places = {
            "sqlite": lambda: tmp_path_factory.mktemp("worlds") / "online.db",
            "redis": lambda: stack.enter_context(redis_server()).url,
            "postgres": lambda: stack.enter_context(postgres_server()).url,
        }
        place = places[request.param]()
        yield lambda: OPENED[request.param](place, f"world {next(_worlds)}")


def test_what_is_read_is_the_row_of_the_greatest_version(open_world):
    counted: Counter[str] = Counter()

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(worlds())
    def holds(world: World) -> None:
        got = written_and_read(open_world(), world)
        for name, wanted in expected(world).items():
            told = list(zip(got.columns[name], got.statuses[name], got.event_times[name], strict=True))
            assert [one[1:] for one in told] == [one[1:] for one in wanted], name
            for (value, status, _), (right, _, _) in zip(told, wanted, strict=True):
                assert same(value, right), (name, value, right)
                counted[status] += 1

    holds()
    print(dict(counted))
    assert all(counted[status] > 50 for status in Status)


def written_and_read(backend: OnlineBackend, world: World) -> Answer:
    try:
        for boundary, rows in world.batches:
            write_table(backend, world.view, table_of_rows(world, rows), boundary)
        schema = table_of_rows(world, []).schema
        reader = Reader(plan_retrieval(FeatureService("s", [world.view])), {"things": schema})
        entity_rows = {f"k{i}": [key[i] for key in world.asked] for i in range(len(world.keys))}
        entity_rows = entity_rows or {"any": [None] * len(world.asked)}
        return reader.answer(entity_rows, backend=backend, now_us=NOW)
    finally:
        backend.close()
