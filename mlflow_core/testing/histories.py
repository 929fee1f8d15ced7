"""Random small worlds: a view, events, entity rows. Small on purpose, so that everything unusual happens often.

Times are a few dozen neighbouring microseconds, so events share times, fall on window edges, come late, and are
corrected and moved; values are few, so there are ties, nulls, NaN, infinities and sums that cancel. The same
generator feeds hypothesis (``mlflow_core.testing.strategies``) and seeded runs in bulk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa

from mlflow_core.algebra.types import TIME
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import Agg, ClockName, Entity, Every, FeatureView, ParquetSource

__all__ = ["COLUMNS", "CONDITIONS", "EXPRESSIONS", "History", "random_history", "read_under"]

COLUMNS: dict[str, tuple[pa.DataType, list[Any], list[str]]] = {
    "f": (
        pa.float64(),
        [
            *(0.1, 0.2, 0.3, -0.1, 0.0, -0.0, 2.5, 1e17, -1e17, 1.0000000001),
            *(1e300, 1.7e308, -1.7e308),
            *(None, float("nan")),
        ],
        [
            "count",
            "sum",
            "mean",
            "std",
            "var",
            "min",
            "max",
            "first",
            "quantile(0.5)",
            "quantile(0.9)",
            "last(3)",
            "approx_quantile(0.9)",
        ],
    ),
    "inf": (
        pa.float64(),
        [1.0, -2.0, 3.5, float("inf"), float("-inf"), None],
        ["sum", "mean", "std", "var", "min", "quantile(0.25)", "approx_quantile(0.5)"],
    ),
    "f32": (pa.float32(), [0.5, -1.5, 2.25, None, float("nan")], ["sum", "max", "last"]),
    "i": (
        pa.int64(),
        [0, 1, 2, 3, -5, 2**53 + 1, -(2**53) - 1, 2**56, None],
        ["sum", "mean", "min", "count_distinct", "last", "first(2)", "quantile(0)", "top_k(2)"],
    ),
    "b": (pa.bool_(), [True, False, None], ["sum", "mean", "max", "count"]),
    "s": (
        pa.string(),
        ["", "a", "b", "é", "ab", None],
        [
            *("min", "max", "first", "last", "count_distinct", "last(2)", "first(3)"),
            *("approx_count_distinct", "top_k(3)"),
        ],
    ),
    "w": (TIME, [0, 5, 5_000_000, -7, None], ["min", "max", "last", "count_distinct", "top_k(1)"]),
    "g": (pa.float64(), [], ["sum", "quantile(1)", "count_distinct", "approx_count_distinct"]),
}
EXPRESSIONS = {"g": "f32 * 2"}
CONDITIONS = ("f > 0", "b", "s <> 'a' AND i IS NOT NULL")

_FIRST_TIMES = (0, -30, 1_577_836_800_000_000)
_SPAN = 60


@dataclass(frozen=True, slots=True)
class History:
    """One small world.

    Attributes:
        view: A view with availability.
        events: Rows of its source, in source order.
        rows: Entity rows, their time in ``event_timestamp``.
    """

    view: FeatureView
    events: pa.Table
    rows: pa.Table


def read_under(view: FeatureView, clock: ClockName) -> ViewRead:
    """Return the read of all of a view's features under a clock."""
    return ViewRead(view, view.feature_names, clock, tuple((key, key) for key in view.keys))


def random_history(random: Random, *, events: int = 40, rows: int = 12) -> History:
    """Make up a small world.

    Args:
        random: Where chance comes from.
        events: How many rows the source has at most.
        rows: How many entity rows there are at most.
    """
    keys = random.choice([(), ("k",), ("k",), ("k", "m")])
    first = random.choice(_FIRST_TIMES)
    identity, deleted = random.choice([(None, None), ("id", None), ("id", "gone")])
    source = ParquetSource(
        "events",
        path="events.parquet",
        event_time="t",
        known_at=random.choice([None, "known", "known"]),
        created=random.choice([None, "made"]),
        event_id=identity,
        deleted=deleted,
    )
    view = FeatureView(
        "v",
        entity=Entity("e", keys=keys) if keys else None,
        source=source,
        columns=EXPRESSIONS,
        features=(*COLUMNS, *(_aggregate(random, column) for column in COLUMNS), _row_count(random)),
        ttl=random.choice([None, "9us", "1us"]),
        availability=Every(
            f"{random.choice([1, 7, 10])}us",
            delay=f"{random.choice([0, 3, 12])}us",
            anchor=random.choice(["1970-01-01T00:00:00Z", "2020-01-01T00:00:00.000005Z"]),
        ),
    )
    integer_keys = random.random() < 0.5
    return History(
        view,
        _events(random, random.randint(0, events), first, integer_keys=integer_keys),
        _rows(random, random.randint(0, rows), first, integer_keys=integer_keys),
    )


def _aggregate(random: Random, column: str) -> Agg:
    return Agg(
        column,
        COLUMNS[column][2],
        over=random.sample(["1us", "4us", "13us", "30us", "1d"], 2),
        **_edges(random),
    )


def _row_count(random: Random) -> Agg:
    return Agg("*", "count", over=["2us", "20us"], **_edges(random))


def _edges(random: Random) -> dict[str, Any]:
    return {
        "offset": random.choice(["0s", "0s", "1us", "6us"]),
        "where": random.choice([None, None, *CONDITIONS]),
        "boundary": random.choice(["(]", "(]", "[)"]),
        "accuracy": random.choice(["exact", "exact", "hop(4us)", "hop(7us)"]),
    }


def _times(random: Random, n: int, first: int, *, late: int = 0, nulls: float = 0.0) -> list[int | None]:
    return [
        None if random.random() < nulls else first + random.randint(0, _SPAN) + random.randint(0, late)
        for _ in range(n)
    ]


def _keys(random: Random, n: int, *, integer: bool) -> dict[str, pa.Array]:
    k: list[Any] = [1, 2, 3, -4, None] if integer else ["x", "", "y", "é", None]
    weights = [6, 4, 2, 1, 1]
    return {
        "k": pa.array(random.choices(k, weights, k=n), pa.int64() if integer else pa.string()),
        "m": pa.array(random.choices(["p", "q", "", None], [6, 3, 1, 1], k=n), pa.string()),
    }


def _events(random: Random, n: int, first: int, *, integer_keys: bool) -> pa.Table:
    values = {
        name: pa.array(random.choices(choices, k=n), pa.int64()).cast(kind)
        if kind == TIME
        else pa.array(random.choices(choices, k=n), kind, from_pandas=False)
        for name, (kind, choices, _) in COLUMNS.items()
        if choices
    }
    table = pa.table(
        _keys(random, n, integer=integer_keys)
        | {
            "t": _moments(_times(random, n, first)),
            "known": _moments(_times(random, n, first, late=20, nulls=0.1)),
            "made": _moments(_times(random, n, first, late=5, nulls=0.1)),
            "id": pa.array([random.choice([None, *range(max(1, n // 2))]) for _ in range(n)], pa.int64()),
            "gone": pa.array(random.choices([True, False, None], [1, 5, 1], k=n), pa.bool_()),
        }
        | values
    )
    again = [random.randrange(n) for _ in range(random.choice([0, 0, 3]))] if n else []
    return table.take(pa.array([*range(n), *again], pa.int64()))


def _rows(random: Random, n: int, first: int, *, integer_keys: bool) -> pa.Table:
    times = [first + random.randint(-5, _SPAN + 45) for _ in range(n)]
    table = pa.table(_keys(random, n, integer=integer_keys) | {"event_timestamp": _moments(times)})
    again = [random.randrange(n) for _ in range(n // 6)] if n else []
    return table.take(pa.array([*range(n), *again], pa.int64()))


def _moments(times: Sequence[int | None]) -> pa.Array:
    return pa.array(times, pa.int64()).cast(TIME)
