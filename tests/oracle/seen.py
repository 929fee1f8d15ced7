"""What an entity row sees, as SQL that DuckDB and SQLite both run: clocks, identity, keys and window edges.

It shares no code with the package beyond the declarations, and none with the plain loop. Times are integers,
microseconds since epoch. The tables are ``events_`` (the source's columns, and ``place``, its order) and ``rows_``
(``q``, the number of the entity row, ``asked``, its time, and its keys under ``asked_`` and their names).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlflow_core.spec import FeatureView, WindowColumn
from mlflow_core.testing.histories import History

VALUES = ("f", "inf", "f32", "i", "b", "s", "w", "g")
NEWEST_FIRST = "t DESC, created_us DESC, place DESC"
OLDEST_FIRST = "t, created_us, place"


@dataclass(frozen=True)
class Opinion:
    """One answer of a database: the value, and how far another may be from it.

    0 is not at all; infinity is no opinion, because the database's own arithmetic left the range of numbers.
    """

    value: Any
    tolerance: float = 0.0


def plain(table: pa.Table) -> dict[str, list[Any]]:
    """Return columns of Python values: times as microseconds, NaN as null."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        values = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        columns[name] = [
            None if isinstance(value, float) and math.isnan(value) else value for value in values.to_pylist()
        ]
    return columns


def events_of(history: History) -> dict[str, list[Any]]:
    """Return the columns of ``events_``."""
    return plain(history.events) | {"place": list(range(history.events.num_rows))}


def rows_of(history: History) -> dict[str, list[Any]]:
    """Return the columns of ``rows_``."""
    columns = plain(history.rows)
    renamed = {"asked" if name == "event_timestamp" else f"asked_{name}": columns[name] for name in columns}
    return {"q": list(range(history.rows.num_rows))} | renamed


def seen(view: FeatureView, clock: str) -> str:
    """Return the query of all (entity row, event that counts for it) under a clock."""
    source, available = view.source, view.availability
    known = f"CASE WHEN {source.known_at} > t THEN {source.known_at} ELSE t END" if source.known_at else "t"
    created = f"coalesce({source.created}, known_us)" if source.created else "known_us"
    moment, slack = "asked", 0
    if clock == "served":
        every, delay, anchor = int(available.every), int(available.delay), available.anchor_us
        moment, slack = f"{anchor} + {floored(f'(asked - {delay} - {anchor})', every)}", delay
    visible = "t <= moment" if clock == "event" else f"t <= moment AND known_us <= moment + {slack}"
    # Of each event one version counts: the last of those that this entity row may see, whichever key it has.
    version = f"row_number() OVER (PARTITION BY q, {source.event_id} ORDER BY created_us DESC, place DESC)"
    counts = [f"({source.event_id} IS NULL OR version = 1)"] if source.event_id else []
    counts += [f"NOT coalesce({source.deleted}, false)"] if source.deleted else []
    counts += [f"{key} = asked_{key}" for key in view.keys]
    return f"""
        WITH known AS (SELECT *, f32 * 2 AS g, {known} AS known_us FROM events_),
             created AS (SELECT *, {created} AS created_us FROM known),
             asking AS (SELECT *, {moment} AS moment FROM rows_),
             pairs AS (SELECT * FROM asking JOIN created ON {visible}),
             versions AS (SELECT *, {version if source.event_id else "1"} AS version FROM pairs)
        SELECT * FROM versions WHERE {" AND ".join(counts) or "true"}"""


def inside(window: WindowColumn) -> str:
    """Return the condition that an event of ``seen`` lies in a window and meets its ``where``."""
    end = f"(moment - {int(window.offset)})"
    start = f"({end} - {int(window.over)})"
    if window.hop is not None:
        start = floored(start, int(window.hop))
    edges = f"t > {start} AND t <= {end}" if window.boundary == "(]" else f"t >= {start} AND t < {end}"
    return f"({edges}) AND ({window.where or 'true'})"


def floored(value: str, step: int) -> str:
    """Round down to a multiple; the remainder of a negative number is negative in SQL."""
    return f"({value} - (({value} % {step}) + {step}) % {step})"


def alike(windows: Iterable[WindowColumn]) -> dict[tuple[str, str], list[WindowColumn]]:
    """Group windows that aggregate the same values, by (value, condition): one query answers them all."""
    groups: dict[tuple[str, str], list[WindowColumn]] = {}
    for window in windows:
        value = "1" if window.column == "*" else window.column
        groups.setdefault((value, inside(window)), []).append(window)
    return groups


def within(opinion: Opinion, answer: Any) -> bool | None:
    """Say whether an answer agrees; None where the database has no opinion."""
    value, tolerance = opinion.value, opinion.tolerance
    if tolerance == math.inf:
        return None
    if value is None or answer is None:
        return value is None and answer is None
    if tolerance == 0:
        return type(value) is type(answer) and value == answer
    return value == answer or abs(value - answer) <= tolerance


def opinion_of(value: Any, size: float | None) -> Opinion:
    """Make an opinion of a value and of what the rule of exactness measures it by; None where it is exact."""
    if size == math.inf:
        return Opinion(value, math.inf)
    if isinstance(value, float) and math.isnan(value):
        return Opinion(None)
    if size is None or not isinstance(value, float):
        return Opinion(value)
    # Where all values are 0 an answer must be 0, and any small number says so.
    return Opinion(value, max(1e-9 * size, 1e-300))


def differing(
    history: History, answers: pa.Table, opinions: Mapping[str, list[Opinion]], counted: Any
) -> list[str]:
    """Compare the columns that a database has an opinion on; count by function, and say which differ."""
    functions = {window.name: window.function for window in history.view.windows}
    wrong = []
    for name, column in plain(answers.select(list(opinions))).items():
        function = functions.get(name)
        for row, (opinion, answer) in enumerate(zip(opinions[name], column, strict=True)):
            squared = function is not None and function.name == "std" and answer is not None
            agreed = within(opinion, answer * answer if squared else answer)
            counted["latest" if function is None else function.name] += agreed is not None
            if agreed is False:
                wrong.append(f"row {row} {name}: {answer!r}, {opinion}")
    return wrong
