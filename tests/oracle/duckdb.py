"""DuckDB's answers: every aggregate but the sketches, and as-of, over the raw events."""

from __future__ import annotations

import duckdb
import pyarrow as pa

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

WHOLE = {"i", "b"}
SKETCHES = {"approx_quantile", "approx_count_distinct", "top_k"}


def opinions(history: History, clock: str) -> dict[str, list[Opinion]]:
    """Return, for each feature of the view, DuckDB's answer to each entity row."""
    with duckdb.connect() as con:
        con.register("events_", _arrow(events_of(history), history.events, "place"))
        con.register("rows_", _arrow(rows_of(history), history.rows, "q"))
        con.execute(f"CREATE TABLE seen AS {seen(history.view, clock)}")
        n = history.rows.num_rows
        found = _latest(con, history, n)
        exact = [w for w in history.view.windows if w.function.name not in SKETCHES]
        for (value, condition), windows in alike(exact).items():
            selected = ", ".join(f"{_in_sql(window)}, {_size(window)}" for window in windows)
            # The mean is taken first: squares of distances from it do not cancel.
            centred = "v - avg(v::DOUBLE) OVER (PARTITION BY q) AS d" if value in {"f", "inf"} else "1"
            answers = con.execute(f"""
                SELECT q, {selected} FROM
                (SELECT *, {centred} FROM
                 (SELECT q, t, created_us, place, {value} AS v FROM seen WHERE {condition}) WHERE v IS NOT NULL)
                GROUP BY q""").fetchall()
            given = {q: rest for q, *rest in answers}
            for at, window in enumerate(windows):
                empty = [0 if window.function.name.startswith("count") else None, None]
                pairs = (given.get(row, empty * len(windows))[2 * at : 2 * at + 2] for row in range(n))
                found[window.name] = [opinion_of(*pair) for pair in pairs]
        return found


def _arrow(columns, table: pa.Table, order: str) -> pa.Table:
    kinds = {f"asked_{name}": table.schema.field(name).type for name in table.column_names}
    kinds |= {name: table.schema.field(name).type for name in table.column_names}
    made = {}
    for name, values in columns.items():
        kind = kinds.get(name, pa.int64())
        made[name] = pa.array(values, pa.int64() if pa.types.is_timestamp(kind) else kind)
    return pa.table(made)


def _latest(con, history: History, n: int) -> dict[str, list[Opinion]]:
    fresh = "true" if history.view.ttl is None else f"asked - t <= {int(history.view.ttl)}"
    rows = con.execute(f"""
        SELECT q, {fresh}, {", ".join(VALUES)} FROM seen
        QUALIFY row_number() OVER (PARTITION BY q ORDER BY {NEWEST_FIRST}) = 1""").fetchall()
    given = {q: values for q, counts, *values in rows if counts}
    nothing = [None] * len(VALUES)
    return {
        name: [Opinion(given.get(row, nothing)[at]) for row in range(n)] for at, name in enumerate(VALUES)
    }


def _in_sql(window: WindowColumn) -> str:
    name, argument = window.function
    if name == "quantile":
        place, low, high = _neighbours(argument)
        share = f"({place} - floor({place}))"
        edge = (
            f"CASE WHEN {share} = 0 OR {low} = {high} THEN {low} ELSE {low} + ({high} - {low}) * {share} END"
        )
        # Infinities among the two neighbours are a rule of ours, not DuckDB's.
        return f"CASE WHEN isinf({low}) OR isinf({high}) THEN {edge} ELSE quantile_cont(v::DOUBLE, {argument}) END"
    if name in ("first", "last") and argument is not None:
        part = f"[:{argument}]" if name == "first" else f"[-{argument}:]"
        return f"list(v ORDER BY {OLDEST_FIRST}){part}"
    return {
        "count": "count(v)",
        "count_distinct": "count(DISTINCT v)",
        "sum": "sum(v::BIGINT)" if window.column in WHOLE else "sum(v::DOUBLE)",
        "mean": "avg(v::DOUBLE)",
        "var": "CASE WHEN count(v) > 1 THEN sum(d * d) / (count(v) - 1) END",
        "std": "CASE WHEN count(v) > 1 THEN sum(d * d) / (count(v) - 1) END",
        "min": "min(v)",
        "max": "max(v)",
        "first": "arg_min(v, (t, created_us, place))",
        "last": "arg_max(v, (t, created_us, place))",
    }[name]


def _neighbours(q) -> tuple[str, str, str]:
    """Return where a quantile lies among the sorted values, and the value below and above it."""
    place = f"((count(v) - 1) * {q}::DOUBLE)"
    low, high = (f"list_sort(list(v::DOUBLE))[floor({place})::INT + {k}]" for k in (1, 2))
    return place, low, high


def _size(window: WindowColumn) -> str:
    """Return what the rule of exactness measures a difference by."""
    name, argument = window.function
    if name == "quantile":
        _, low, high = _neighbours(argument)
        beyond = f"isinf({high} - {low}) AND NOT isinf({high}) AND NOT isinf({low})"
        size = f"1e-3 * greatest(abs({low}), abs(coalesce({high}, 0)))"
        return f"CASE WHEN isinf({low}) OR isinf({high}) THEN NULL WHEN {beyond} THEN 'inf'::DOUBLE ELSE {size} END"
    size = {
        "sum": "sum(abs(v::DOUBLE))",
        "mean": "sum(abs(v::DOUBLE)) / count(v)",
        "var": "sum(v * v) / nullif(count(v) - 1, 0)",
        "std": "sum(v * v) / nullif(count(v) - 1, 0)",
    }.get(name, "NULL")
    # An infinity of the data is itself, not a number that became too large.
    return f"CASE WHEN bool_or(isinf(v::DOUBLE)) THEN NULL ELSE {size} END" if size != "NULL" else size
