"""A second opinion, in SQL: DuckDB range joins where SQL can say what a window is."""

from __future__ import annotations

from random import Random

import duckdb
import pyarrow as pa
import pytest

from mlflow_core.engine.view import compute_view
from mlflow_core.testing.histories import random_history, read_under

SEED = 11
FUNCTIONS = {
    "count": "count(v)",
    "sum": "sum(v)",
    "mean": "avg(v::DOUBLE)",
    "min": "min(v)",
    "max": "max(v)",
    "last": "arg_max(v, (t_e, created, row))",
    "count_distinct": "count(DISTINCT v)",
}


def worlds():
    """Worlds whose events have no versions; those are a loop's business."""
    random = Random(SEED)
    while True:
        history = random_history(random, events=120, rows=80)
        if history.view.source.event_id is None and history.view.keys and history.rows.num_rows > 20:
            yield history


def seen_by(history, clock: str) -> duckdb.DuckDBPyConnection:
    """Make a table ``seen``: each entity row beside each event that it sees, nulls of values included."""
    source, available = history.view.source, history.view.availability
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.register("events_", history.events.append_column("row", pa.array(range(history.events.num_rows))))
    con.register("rows_", history.rows.append_column("q", pa.array(range(history.rows.num_rows))))
    known = (
        f"greatest(epoch_us(t), coalesce(epoch_us({source.known_at}), epoch_us(t)))"
        if source.known_at
        else "epoch_us(t)"
    )
    created = f"coalesce(epoch_us({source.created}), {known})" if source.created else known
    every, delay, anchor = int(available.every), int(available.delay), available.anchor_us
    b = f"({anchor} + CAST(floor((t - {delay} - {anchor}) / {every}::DOUBLE) AS BIGINT) * {every})"
    at, slack = (b, delay) if clock == "served" else ("t", 0)
    seen = (
        "e.t_e <= r.moment" if clock == "event" else f"e.t_e <= r.moment AND e.known_us <= r.moment + {slack}"
    )
    on_key = " AND ".join(f"e.{key} = r.{key}" for key in history.view.keys)
    con.execute(f"""
        CREATE TABLE seen AS
        WITH e AS (SELECT * REPLACE (CASE WHEN isnan(f) THEN NULL ELSE f END AS f,
                                     CASE WHEN isnan(f32) THEN NULL ELSE f32 END AS f32),
                          epoch_us(t) AS t_e, {known} AS known_us, {created} AS created FROM events_),
             r AS (SELECT *, {at} AS moment FROM (SELECT q, epoch_us(event_timestamp) AS t, {", ".join(history.view.keys)} FROM rows_))
        SELECT r.q, r.moment, e.*, e.f32 * 2 AS g FROM r JOIN e ON {on_key} AND {seen}""")
    return con


def answers_in_sql(con, window, n_rows: int) -> list:
    value, where = (1 if window.column == "*" else window.column), window.where or "true"
    end = f"(moment - {int(window.offset)})"
    start = f"({end} - {int(window.over)})"
    if window.hop is not None:
        start = f"(CAST(floor({start} / {int(window.hop)}::DOUBLE) AS BIGINT) * {int(window.hop)})"
    inside = (
        f"t_e > {start} AND t_e <= {end}" if window.boundary == "(]" else f"t_e >= {start} AND t_e < {end}"
    )
    found = con.execute(f"""
        SELECT q, {FUNCTIONS[window.function.name]} FROM (SELECT *, {value} AS v FROM seen)
        WHERE ({where}) AND {inside} AND v IS NOT NULL GROUP BY q""").fetchall()
    empty = 0 if window.function.name.startswith("count") else None
    answers = dict.fromkeys(range(n_rows), empty) | dict(found)
    return [answers[row] for row in range(n_rows)]


@pytest.mark.parametrize("clock", ["event", "known", "served"])
def test_sql_gives_the_same_windows(clock):
    compared = 0
    for history, _ in zip(worlds(), range(4), strict=False):
        out = compute_view(history.events, history.rows, read_under(history.view, clock))
        con = seen_by(history, clock)
        for window in history.view.windows:
            # Sums that cancel, and times, are compared with the loop, which knows what may differ.
            if (
                window.column not in ("i", "s", "b", "f32", "*")
                or window.function.name not in FUNCTIONS
                or window.function.argument
            ):
                continue
            ours, theirs = out[window.name].to_pylist(), answers_in_sql(con, window, history.rows.num_rows)
            if window.function.name == "mean":
                if window.column == "i":  # cancels: compared with the loop
                    continue
                ours, theirs = ([None if x is None else round(x, 9) for x in side] for side in (ours, theirs))
            assert ours == theirs, window
            compared += len(ours)
        con.close()
    assert compared > 5_000


@pytest.mark.parametrize("clock", ["event", "known", "served"])
def test_sql_gives_the_same_latest_values(clock):
    for history, _ in zip(worlds(), range(4), strict=False):
        view = history.view.model_copy(update={"ttl": None})
        out = compute_view(history.events, history.rows, read_under(view, clock))
        con = seen_by(history, clock)
        newest = "row_number() OVER (PARTITION BY q ORDER BY t_e DESC, created DESC, row DESC) = 1"
        found = {
            q: rest
            for q, *rest in con.execute(f"SELECT q, i, s, b, f32, g FROM seen QUALIFY {newest}").fetchall()
        }
        ours = list(zip(*(out[name].to_pylist() for name in ("i", "s", "b", "f32", "g")), strict=True))
        assert ours == [tuple(found.get(row, [None] * 5)) for row in range(history.rows.num_rows)]
        con.close()
