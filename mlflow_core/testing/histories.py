"""Random small worlds: a view, events, entity rows. Small on purpose, so that everything unusual happens often.

Times are a few dozen neighbouring microseconds, so events share times, fall on window edges, come late, and are
corrected and moved; values are few, so there are ties, nulls, NaN, infinities and sums that cancel. Seeded runs in
bulk are made here; ``mlflow_core.testing.strategies`` draws the same worlds from hypothesis, which shrinks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pyarrow as pa

from mlflow_core.algebra.types import TIME
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import Agg, ClockName, Entity, Every, FeatureView, ParquetSource

__all__ = [
    "COLUMNS",
    "CONDITIONS",
    "EXPRESSIONS",
    "FIRST_TIMES",
    "SPAN",
    "History",
    "event_choices",
    "events_table",
    "key_choices",
    "random_history",
    "random_view",
    "read_under",
    "rows_table",
    "told_otherwise",
]

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

FIRST_TIMES = (0, -30, 1_577_836_800_000_000, 1_383_458_400_000_000 - 30)
"""Where worlds begin: the epoch, before it, an anchor's year, and the hour that New York has twice."""
SPAN = 60
"""Over how many microseconds events happen."""
_LATE = {"t": 0, "known": 20, "made": 5}
_KINDS = (
    None,
    pa.timestamp("us"),
    pa.timestamp("us", "America/New_York"),
    pa.timestamp("ns", "+05:30"),
    pa.timestamp("ns"),
)


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        """Tell all of it: a world that breaks a rule was shrunk to few rows."""
        return f"History({self.view!r}, events={self.events.to_pylist()}, rows={self.rows.to_pylist()})"


def read_under(view: FeatureView, clock: ClockName) -> ViewRead:
    """Return the read of all of a view's features under a clock."""
    return ViewRead(view, view.feature_names, clock, tuple((key, key) for key in view.keys))


def random_history(
    random: Random,
    *,
    events: int = 40,
    rows: int = 12,
    at_least: int = 0,
    columns: Sequence[str] = tuple(COLUMNS),
    hot: bool = False,
) -> History:
    """Make up a small world.

    Args:
        random: Where chance comes from.
        events: How many rows the source has at most.
        rows: How many entity rows there are at most.
        at_least: How many rows the source has at least.
        columns: Of which of ``COLUMNS`` the view has features.
        hot: One key has nearly all events and entity rows.
    """
    view, first, integer = random_view(random, columns), random.choice(FIRST_TIMES), random.random() < 0.5
    return History(
        view,
        _events(random, random.randint(at_least, events), first, integer_keys=integer, hot=hot),
        _rows(random, random.randint(0, rows), first, integer_keys=integer, hot=hot),
    )


def random_view(random: Random, columns: Sequence[str] = tuple(COLUMNS)) -> FeatureView:
    """Make up a view: keys, clock columns, identity, availability, and for each column windows of all its functions.

    Args:
        random: Where chance comes from; what it chooses first is the plainest.
        columns: Of which of ``COLUMNS`` the view has features.
    """
    keys = random.choice([("k",), ("k",), ("k", "m"), ()])
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
    return FeatureView(
        "v",
        entity=Entity("e", keys=keys) if keys else None,
        source=source,
        columns=EXPRESSIONS,
        features=(*columns, *(_aggregate(random, column) for column in columns), _row_count(random)),
        ttl=random.choice([None, "9us", "1us"]),
        availability=Every(
            f"{random.choice([1, 7, 10])}us",
            delay=f"{random.choice([0, 3, 12])}us",
            anchor=random.choice(["1970-01-01T00:00:00Z", "2020-01-01T00:00:00.000005Z"]),
        ),
    )


def event_choices(ids: int) -> dict[str, tuple[list[Any], list[int] | None]]:
    """Return what a row of the source may hold beside keys and times, and how often (None: alike), the plainest first.

    Args:
        ids: How many identities there are.
    """
    values: dict[str, tuple[list[Any], list[int] | None]] = {
        name: (choices, None) for name, (_, choices, _) in COLUMNS.items() if choices
    }
    return {"id": ([None, *range(ids)], None), "gone": ([False, None, True], [5, 1, 1])} | values


def key_choices(*, integer: bool, hot: bool = False) -> dict[str, tuple[list[Any], list[int]]]:
    """Return what keys there are and how often.

    Args:
        integer: Keys are numbers rather than texts.
        hot: One key is nearly all.
    """
    k: list[Any] = [1, 2, 3, -4, None] if integer else ["x", "", "y", "é", None]
    often = 200 if hot else 6
    return {"k": (k, [often, 4, 2, 1, 1]), "m": (["p", "q", "", None], [often, 3, 1, 1])}


def events_table(columns: Mapping[str, Sequence[Any]], *, integer_keys: bool) -> pa.Table:
    """Return rows of a source from Python's values; times are microseconds.

    Args:
        columns: ``k``, ``m``, ``t``, ``known``, ``made`` and all of ``event_choices``, (n,) each.
        integer_keys: Keys are numbers rather than texts.
    """
    kinds = {name: kind for name, (kind, choices, _) in COLUMNS.items() if choices}
    kinds |= dict.fromkeys(_LATE, TIME) | {"id": pa.int64(), "gone": pa.bool_()}
    return _table(
        {name: columns[name] for name in ("k", "m", *_LATE, *event_choices(0))}, kinds, integer_keys
    )


def rows_table(columns: Mapping[str, Sequence[Any]], *, integer_keys: bool) -> pa.Table:
    """Return entity rows from Python's values; times are microseconds.

    Args:
        columns: ``k``, ``m`` and ``event_timestamp``, (n,) each.
        integer_keys: Keys are numbers rather than texts.
    """
    return _table(columns, {"event_timestamp": TIME}, integer_keys)


def told_otherwise(random: Random, history: History) -> History:
    """Return the same moments told in other units and zones: naive, of New York, in nanoseconds that are floored."""
    events, rows = history.events, history.rows
    for name in _LATE:
        events = _told(random, events, name)
    return replace(history, events=events, rows=_told(random, rows, "event_timestamp"))


def _told(random: Random, table: pa.Table, name: str) -> pa.Table:
    kind = random.choice(_KINDS)
    if kind is None:
        return table
    moments = table[name].cast(pa.int64()).to_pylist()
    if kind.unit == "ns":
        moments = [None if one is None else one * 1_000 + random.randint(0, 999) for one in moments]
    told = pa.array(moments, pa.int64()).cast(kind)
    return table.set_column(table.column_names.index(name), name, told)


def _table(
    columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, pa.DataType], integer_keys: bool
) -> pa.Table:
    kinds = {"k": pa.int64() if integer_keys else pa.string(), "m": pa.string(), **kinds}
    return pa.table(
        {
            name: pa.array(values, pa.int64()).cast(TIME)
            if kinds[name] == TIME
            else pa.array(values, kinds[name], from_pandas=False)
            for name, values in columns.items()
        }
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


def _times(random: Random, n: int, first: int, *, late: int) -> list[int | None]:
    nulls = 0.1 if late else 0.02
    return [
        None if random.random() < nulls else first + random.randint(0, SPAN) + random.randint(0, late)
        for _ in range(n)
    ]


def _chosen(
    random: Random, n: int, choices: Mapping[str, tuple[list[Any], list[int] | None]]
) -> dict[str, list[Any]]:
    return {name: random.choices(values, weights, k=n) for name, (values, weights) in choices.items()}


def _events(random: Random, n: int, first: int, *, integer_keys: bool, hot: bool) -> pa.Table:
    choices = key_choices(integer=integer_keys, hot=hot) | event_choices(max(1, n // 2))
    if hot:  # the sum of thousands of the largest would not fit in int64
        choices["i"] = ([one for one in choices["i"][0] if one is None or abs(one) < 2**55], None)
    columns = _chosen(random, n, choices)
    columns |= {name: _times(random, n, first, late=late) for name, late in _LATE.items()}
    # A delete says when.
    columns["gone"] = [gone and t is not None for gone, t in zip(columns["gone"], columns["t"], strict=True)]
    again = [random.randrange(n) for _ in range(random.choice([0, 0, 3]))] if n else []
    return events_table(columns, integer_keys=integer_keys).take(pa.array([*range(n), *again], pa.int64()))


def _rows(random: Random, n: int, first: int, *, integer_keys: bool, hot: bool) -> pa.Table:
    columns = _chosen(random, n, key_choices(integer=integer_keys, hot=hot))
    columns["event_timestamp"] = [first + random.randint(-5, SPAN + 45) for _ in range(n)]
    again = [random.randrange(n) for _ in range(n // 6)] if n else []
    return rows_table(columns, integer_keys=integer_keys).take(pa.array([*range(n), *again], pa.int64()))
