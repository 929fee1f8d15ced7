"""How a SQL source is cut into parts, and what tells that a part has changed.

Parts are ranges of one column whose bounds are multiples of a power of two, so that rows that come later leave the
ranges of the others as they are. One statement counts all ranges and takes their *witness*: the number of rows, the
greatest times, and what the database itself knows of changes (PostgreSQL: the transactions that wrote the rows, or
a digest of the rows of a view or query; SQLite: the state of its file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from mlflow_core.errors import nearest
from mlflow_core.sources.part import wrong
from mlflow_core.sources.spans import Span
from mlflow_core.sources.sql_rows import Rows, moment
from mlflow_core.spec import SqlSource

__all__ = ["Range", "Tally", "condition", "ranges_of", "tally"]

_SPLITS = 16
_ROUNDS = 8
"""A range with too many rows is cut in 16, at most so many times."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Form = Literal["number", "date", "naive", "aware", "text", "null"]
"""How the database writes the values of the column."""


@dataclass(frozen=True, slots=True)
class Range:
    """The rows of which one column lies from ``start`` to before ``stop``, or is null.

    Attributes:
        column: The column's name in the specs.
        form: How its values are written; "null" are the rows without one.
        start: First number, day since epoch, or microsecond since epoch, UTC.
        stop: The first one after it.
        open: Whether what lies before ``start`` belongs to it too.
    """

    column: str
    form: Form
    start: int = 0
    stop: int = 0
    open: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """What the database says of a range.

    Attributes:
        rows: Number of rows.
        span: Their event times; None where the database cannot compare them as times.
        witness: A text that changes when they do.
    """

    rows: int
    span: Span | None
    witness: str


def ranges_of(source: SqlSource, connection: sa.Connection, rows: Rows, most: int) -> tuple[Range, ...]:
    """Cut a source into ranges of not many more than ``most`` rows; none means that it is one part.

    Raises:
        SourceError: ``split_by`` is no column of whole numbers or times.
    """
    name = source.split_by or (source.event_time if source.query is None else None)
    if name is None or (source.split_by is None and not rows.has(name)):
        return ()
    if not rows.has(name):
        raise wrong(
            source, f'field "split_by": there is no column "{name}"', hint=nearest(name, rows.schema.names)
        )
    column = rows.column(name)
    asked = sa.select(sa.func.count(), sa.func.count(column), sa.func.min(column), sa.func.max(column))
    count, present, least, greatest = connection.execute(asked.select_from(rows.relation)).one()
    if count <= most or least is None:
        return ()
    form = _form(least)
    if form is None and source.split_by is None:
        return ()
    if form is None:
        raise wrong(
            source,
            f'field "split_by": column "{name}" has {type(least).__name__} values, which have no ranges',
            expected="a column of whole numbers or times",
        )
    first, last = _number(least, form), _number(greatest, form)
    ranges = _aligned(name, form, first, last + 1, -(-present // most))
    for _ in range(_ROUNDS):
        counted = tally(source, connection, rows, ranges)
        kept = [(one, found.rows) for one, found in zip(ranges, counted, strict=True) if found.rows]
        ranges = [cut for one, n in kept for cut in (_cut(one) if n > 2 * most else [one])]
        if len(ranges) == len(kept):
            break
    # SQLite compares times as texts, so the very first may stand before a bound that is the same moment.
    ranges[:1] = [replace(one, open=True) for one in ranges[:1]]
    return (*ranges, *([Range(name, "null")] if present < count else []))


def condition(rows: Rows, one: Range) -> sa.ColumnElement[bool]:
    """Return the condition that rows of a range fulfil."""
    column = rows.column(one.column)
    if one.form == "null":
        return column.is_(None)
    start = None if one.open else _value(one.start, one.form)
    stop = _value(one.stop, one.form)
    bounds = [sa.true() if start is None else column >= start, sa.true() if stop is None else column < stop]
    return sa.and_(column.is_not(None), *bounds)


def tally(
    source: SqlSource, connection: sa.Connection, rows: Rows, ranges: Sequence[Range | None]
) -> list[Tally]:
    """Count ranges with one statement; a range that is None is all rows.

    Args:
        source: The source.
        connection: Where to ask.
        rows: The source's rows.
        ranges: Ranges that do not overlap.

    Returns:
        What the database says of each.
    """
    numbered: sa.ColumnElement[Any] = sa.literal_column("0")
    if ranges != [None]:
        whens: list[Any] = [
            (condition(rows, one), sa.literal_column(str(n))) for n, one in enumerate(ranges) if one
        ]
        numbered = sa.case(*whens, else_=sa.literal_column("-1"))
    times = [n for n in (source.event_time, source.known_at, source.created) if n and rows.has(n)]
    inner = sa.select(
        numbered.label("number_of_range"),
        *(rows.column(name).label(f"time_{n}") for n, name in enumerate(times)),
        _version(connection, rows).label("version_of_row"),
    ).subquery("numbered")
    extremes = [f(inner.c[f"time_{n}"]) for n in range(len(times)) for f in (sa.func.min, sa.func.max)]
    statement = sa.select(
        inner.c.number_of_range, sa.func.count(), sa.func.sum(inner.c.version_of_row), *extremes
    ).group_by(inner.c.number_of_range)
    state = _file_state(connection)
    made = [Tally(0, None, state)] * len(ranges)
    for number, count, *facts in connection.execute(statement):
        if number >= 0:
            span = _span(connection, facts[1:3]) if source.event_time in times else None
            made[number] = Tally(int(count), span, "\t".join(str(one) for one in (count, *facts, state)))
    return made


def _version(connection: sa.Connection, rows: Rows) -> sa.ColumnElement[Any]:
    """A number for each row that another version of it does not have, where the database can tell."""
    if connection.dialect.name != "postgresql":
        return sa.literal_column("0")
    if rows.table is None or rows.is_view:
        return sa.literal_column("hashtextextended(CAST(rows_of_the_source AS TEXT), 0)")
    return sa.literal_column("CAST(CAST(rows_of_the_source.xmin AS TEXT) AS BIGINT)")


def _file_state(connection: sa.Connection) -> str:
    """SQLite keeps no version of a row, but everything it writes changes its file or the log beside it."""
    if connection.dialect.name != "sqlite":
        return ""
    database = connection.exec_driver_sql("PRAGMA database_list").first()[2]  # type: ignore[index]
    found = [Path(database), Path(f"{database}-wal")]
    stats = [file.stat() for file in found if file.exists() and file.stat().st_size]
    with found[0].open("rb") as handle:
        header = handle.read(100)
    return f"{header[24:28].hex()} " + " ".join(f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats)


def _span(connection: sa.Connection, ends: Sequence[Any]) -> Span | None:
    # SQLite compares times as texts, whose order is that of time only where all are written alike.
    if connection.dialect.name == "sqlite" or any(not isinstance(end, date) for end in ends):
        return None
    first, last = ((moment(end) - _EPOCH) // _MICROSECOND for end in ends)
    return first, last


def _form(value: Any) -> Form | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return "number"
    if isinstance(value, datetime):
        return "naive" if value.tzinfo is None else "aware"
    if isinstance(value, date):
        return "date"
    if isinstance(value, str):
        try:
            moment(value)
        except ValueError:
            return None
        return "text"
    return None


def _number(value: Any, form: Form) -> int:
    if form == "number":
        return int(value)
    since = moment(value) - _EPOCH
    return since.days if form == "date" else since // _MICROSECOND


def _value(number: int, form: Form) -> Any:
    """Write a number as the database does; None where it lies beyond the calendar, and so bounds nothing."""
    if form == "number":
        return number
    try:
        time = _EPOCH + (timedelta(days=number) if form == "date" else timedelta(microseconds=number))
    except OverflowError:
        return None
    if form == "date":
        return time.date()
    naive = time.replace(tzinfo=None)
    return {"aware": time, "naive": naive, "text": naive.isoformat(" ")}[form]


def _aligned(name: str, form: Form, first: int, stop: int, n: int) -> list[Range]:
    width = 1
    while width * n < stop - first:
        width *= 2
    starts = range(first // width * width, stop, width)
    return [Range(name, form, start, start + width) for start in starts]


def _cut(one: Range) -> list[Range]:
    width = max(1, (one.stop - one.start) // _SPLITS)
    return [Range(one.column, one.form, at, at + width) for at in range(one.start, one.stop, width)]
