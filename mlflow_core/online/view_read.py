"""One view of a request, made ready: which features are wanted, and what its stored rows say about them.

The rules are those of "Latest-value views", "Window aggregates" and "What is stored online" in docs/concepts.md:
TTL counts at the time of the answer and touches latest values only; an unknown (or erased) key has count 0 and
null otherwise, NOT_FOUND; a stored null is NULL_VALUE; a value that is too old is null, OUTSIDE_MAX_AGE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from mlflow_core.algebra.aggregates import empty_value
from mlflow_core.algebra.types import arrow_type
from mlflow_core.errors import PlanError, StoredRowError, StoreError
from mlflow_core.online.answer import Status, all_of
from mlflow_core.online.codec import EVENT_ABSENT, Block
from mlflow_core.online.form import StoredForm
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import DType

__all__ = ["PreparedRead", "ViewColumns", "schema_of_read"]


class ViewColumns(NamedTuple):
    """The features of a view at a request's entity rows, in the read's order, each of shape (n_rows,).

    Attributes:
        values: The values, null where there is none.
        statuses: What they are.
        times: Their times, microseconds since epoch, UTC; None where there is none; empty if nobody asked.
    """

    values: Sequence[list[Any]]
    statuses: Sequence[Sequence[Status]]
    times: Sequence[Sequence[int | None]]


class PreparedRead:
    """A view's read with what does not change between requests.

    Args:
        read: The view, the features wanted, and its keys.
        schema: The view's key columns and features with their types.
        form: How its rows are stored.

    Raises:
        StoreError: A feature has no type.
    """

    def __init__(self, read: ViewRead, schema: pa.Schema, form: StoredForm) -> None:
        self.read = read
        self._rows = form.rows(read.view, schema, read.features)
        self._ttl = None if read.view.ttl is None else int(read.view.ttl)
        windows = {column.name: column for column in read.view.windows}
        positions = {name: i for i, name in enumerate(self._rows.names)}
        wanted = [positions[name] for name in read.features]
        self._wanted = sum(1 << position for position in wanted)
        self._positions = None if wanted == list(range(len(positions))) else wanted
        self.dtypes: dict[str, DType] = {name: self._rows.dtypes[positions[name]] for name in read.features}
        self.types: dict[str, pa.DataType] = {name: arrow_type(dtype) for name, dtype in self.dtypes.items()}
        self._windows = [name in windows for name in read.features]
        self._unknown = [
            empty_value(windows[name].function) if name in windows else None for name in read.features
        ]
        self._converted = [
            (i, _SHOWN[dtype]) for i, dtype in enumerate(self.dtypes.values()) if dtype in _SHOWN
        ]
        self._any_latest = not all(self._windows)

    def columns(
        self, values: Sequence[Any], rows: Sequence[int] | None, n_rows: int, now_us: int, *, times: bool
    ) -> ViewColumns:
        """Return the features at the entity rows.

        Args:
            values: What the store found for this view, a value for each of the keys asked for.
            rows: At which entity rows those keys stand; None if at all of them, in order.
            n_rows: How many entity rows there are.
            now_us: When TTL counts, microseconds since epoch, UTC.
            times: Whether the values' times are wanted.

        Raises:
            StoredRowError: A row cannot be read; names the view.
        """
        absent = self._rows.absent(values)
        if absent:
            gone = set(absent)
            there = [i for i in range(len(values)) if i not in gone]
            values = [values[i] for i in there]
            rows = there if rows is None else [rows[i] for i in there]
        block = self._block(values)
        late, of_latest, of_windows = self._times(block, values, now_us, wanted=times)
        columns = block.columns
        if self._positions is not None:
            columns = [columns[position] for position in self._positions]
        for i, show in self._converted:
            columns[i] = self._shown(columns[i], show)
        found = self._found(columns, block.nulls, late, n_rows=len(values))
        told = (
            [of_windows if window else of_latest for window in self._windows]
            if times
            else [()] * len(columns)
        )
        if rows is None:
            return ViewColumns(columns, found, told)
        places = _places(rows, n_rows)
        return ViewColumns(
            [_at(places, column, one) for column, one in zip(columns, self._unknown, strict=True)],
            _each_at(places, found, Status.NOT_FOUND),
            _each_at(places, told, None) if times else told,
        )

    def _shown(self, values: Sequence[Any], show: Callable[[Any], Any]) -> list[Any]:
        try:
            return [None if value is None else show(value) for value in values]
        except OverflowError as error:
            what = "a stored time is outside the years 1 to 9999"
            raise StoredRowError(what, object=self.read.view.title) from error

    def _block(self, values: Sequence[Any]) -> Block:
        try:
            return self._rows.block(values)
        except StoreError as error:
            raise StoredRowError(
                error.what, object=self.read.view.title, expected=error.expected, hint=error.hint
            ) from error

    def _times(
        self, block: Block, values: Sequence[Any], now_us: int, *, wanted: bool
    ) -> tuple[list[int], Sequence[int | None], Sequence[int]]:
        """Return which rows are too old, and where times are wanted those of latest values and of windows."""
        oldest = None if self._ttl is None or not self._any_latest else now_us - self._ttl
        if oldest is None and not wanted:
            return [], (), ()
        own = block.event_times
        boundaries = self._rows.times(values) if own is None or wanted else ()
        events = boundaries if own is None else own
        late: list[int] = []
        if oldest is not None and events and min(events) < oldest:
            late = [i for i, time in enumerate(events) if EVENT_ABSENT != time < oldest]
        if own is not None and wanted:
            return late, [None if time == EVENT_ABSENT else time for time in own], boundaries
        return late, events, boundaries

    def _found(
        self, columns: list[list[Any]], nulls: int | None, late: Sequence[int], *, n_rows: int
    ) -> list[Sequence[Status]]:
        """Return the statuses of rows that are there, and take away the values that are too old."""
        present = all_of(Status.PRESENT, n_rows)
        statuses: list[Sequence[Status]] = [present] * len(columns)
        if nulls is None or nulls & self._wanted:
            for i, column in enumerate(columns):
                if None in column:
                    statuses[i] = [_NULL if value is None else _PRESENT for value in column]
        if late:
            self._outdate(columns, statuses, late)
        return statuses

    def _outdate(
        self, columns: list[list[Any]], statuses: list[Sequence[Status]], late: Sequence[int]
    ) -> None:
        for i, window in enumerate(self._windows):
            if not window:
                column, told = columns[i], list(statuses[i])
                for row in late:
                    column[row], told[row] = None, Status.OUTSIDE_MAX_AGE
                statuses[i] = told


_NULL, _PRESENT = Status.NULL_VALUE, Status.PRESENT


def _places(rows: Sequence[int], n_rows: int) -> list[int]:
    """Return for each entity row which of the found ones is its, or -1."""
    places = [-1] * n_rows
    for i, row in enumerate(rows):
        places[row] = i
    return places


def _at(places: Sequence[int], found: Sequence[Any], unknown: Any) -> list[Any]:
    return list(map([*found, unknown].__getitem__, places))  # -1 is the last


def _each_at(places: Sequence[int], many: Sequence[Sequence[Any]], unknown: Any) -> list[Sequence[Any]]:
    """Do it once for columns that share a sequence, as most do."""
    placed = {id(one): _at(places, one, unknown) for one in {id(one): one for one in many}.values()}
    return [placed[id(one)] for one in many]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _moments(us: list[int | None]) -> list[datetime | None]:
    return [None if one is None else _moment(one) for one in us]


# How decoded values are shown; every other type as it is.
_SHOWN: dict[DType, Callable[[Any], Any]] = {DType.TIMESTAMP: _moment, DType.TIMESTAMP_LIST: _moments}


def schema_of_read(read: ViewRead, schemas: Any) -> pa.Schema:
    """Return the schema of a read's view.

    Raises:
        PlanError: There is none, or it lacks a key column.
    """
    schema = schemas.get(read.view.name)
    if schema is None:
        raise PlanError(
            "has no schema", object=read.view.title, hint=f"Schemas of: {', '.join(sorted(schemas))}."
        )
    for key in read.view.keys:
        if key not in schema.names:
            raise PlanError(f'has no type for key column "{key}"', object=read.view.title)
    return schema
