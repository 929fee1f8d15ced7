"""SQLite's answers: count, sum, mean, min, max, first, last, distinct and as-of, over the raw events."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from mlflow_core.spec import WindowColumn
from mlflow_core.testing.histories import History
from tests.oracle.seen import (
    NEWEST_FIRST,
    OLDEST_FIRST,
    VALUES,
    Opinion,
    alike,
    events_of,
    opinion_of,
    rows_of,
    seen,
)

AGGREGATES = {
    "count": "count(v)",
    "count_distinct": "count(DISTINCT v)",
    "sum": "sum(v)",
    "mean": "avg(v)",
    "min": "min(v)",
    "max": "max(v)",
    "first": "max(CASE WHEN from_first = 1 THEN v END)",
    "last": "max(CASE WHEN from_last = 1 THEN v END)",
}
# An infinity of the data is itself; a sum that is too large for SQLite is no opinion (9e999 is its infinity).
SIZE = "CASE WHEN max(abs(v)) = 9e999 THEN NULL WHEN sum(abs(v) / 1024.0) > 1.75e305 THEN 9e999 ELSE {} END"
SIZES = {"sum": SIZE.format("sum(abs(v))"), "mean": SIZE.format("avg(abs(v))")}


def opinions(history: History, clock: str) -> dict[str, list[Opinion]]:
    """Return SQLite's answer to each entity row, for the features that it can say."""
    with closing(sqlite3.connect(":memory:")) as con:
        _load(con, "events_", events_of(history))
        _load(con, "rows_", rows_of(history))
        con.execute(f"CREATE TABLE seen AS {seen(history.view, clock)}")
        n = history.rows.num_rows
        found = _latest(con, history, n)
        can = [w for w in history.view.windows if w.function.name in AGGREGATES and not w.function.argument]
        for (value, condition), windows in alike(can).items():
            selected = ", ".join(
                f"{AGGREGATES[w.function.name]}, {SIZES.get(w.function.name, 'NULL')}" for w in windows
            )
            answers = con.execute(f"""
                SELECT q, {selected} FROM
                (SELECT q, v, row_number() OVER (PARTITION BY q ORDER BY {OLDEST_FIRST}) AS from_first,
                              row_number() OVER (PARTITION BY q ORDER BY {NEWEST_FIRST}) AS from_last
                 FROM (SELECT q, t, created_us, place, {value} AS v FROM seen WHERE {condition}) WHERE v IS NOT NULL)
                GROUP BY q""").fetchall()
            given = {q: rest for q, *rest in answers}
            for at, window in enumerate(windows):
                empty = [0 if window.function.name.startswith("count") else None, None]
                pairs = (given.get(row, empty * len(windows))[2 * at : 2 * at + 2] for row in range(n))
                found[window.name] = [_opinion(window, *pair) for pair in pairs]
        return found


def _load(con: sqlite3.Connection, name: str, columns) -> None:
    con.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
    rows = zip(*columns.values(), strict=True)
    con.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)


def _latest(con: sqlite3.Connection, history: History, n: int) -> dict[str, list[Opinion]]:
    fresh = "true" if history.view.ttl is None else f"asked - t <= {int(history.view.ttl)}"
    rows = con.execute(f"""
        SELECT q, {fresh}, {", ".join(VALUES)} FROM
        (SELECT *, row_number() OVER (PARTITION BY q ORDER BY {NEWEST_FIRST}) AS nth FROM seen) WHERE nth = 1""")
    given = {q: values for q, counts, *values in rows if counts}
    nothing = [None] * len(VALUES)
    return {
        name: [Opinion(_typed(name, given.get(row, nothing)[at])) for row in range(n)]
        for at, name in enumerate(VALUES)
    }


def _typed(column: str, value):
    """SQLite has no boolean: 0 and 1 are what was stored for it."""
    return bool(value) if column == "b" and value is not None else value


def _opinion(window: WindowColumn, value, size) -> Opinion:
    kept = window.function.name in ("min", "max", "first", "last")
    return opinion_of(_typed(window.column, value) if kept else value, size)
