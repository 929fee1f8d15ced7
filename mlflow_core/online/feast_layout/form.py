"""The form of rows that Feast wrote to Redis: one value a feature, found by the reader as a row of an entity's hash.

A row is what one HMGET found of a view: the bytes of its event time, then those of each feature asked for, None where
the hash has no such field. A row without an event time was never written. What values mean (TTL, nulls, statuses) is
the reader's business, as for packed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import pyarrow as pa

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.errors import ConfigError, StoredRowError, StoreError, nearest
from mlflow_core.online.codec import Block
from mlflow_core.online.feast_layout.keys import KEY_VERSIONS, key_encoder
from mlflow_core.online.feast_layout.values import Numbers, numbers_reader, time_of, value_reader
from mlflow_core.online.form import KeyColumn
from mlflow_core.spec import DType, FeatureView

__all__ = ["FeastForm", "FeastRows"]


class FeastForm:
    """Rows as Feast writes them to Redis; see ``online.form.StoredForm``.

    Args:
        key_version: Feast's ``entity_key_serialization_version``.

    Raises:
        ConfigError: It is none that is understood.
    """

    def __init__(self, key_version: int = 3) -> None:
        if key_version not in KEY_VERSIONS:
            raise ConfigError(
                f"entity_key_serialization_version is {key_version}",
                place="feature_store.yaml",
                expected=" or ".join(map(str, KEY_VERSIONS)),
            )
        self._key_version = key_version

    def key_encoder(self, columns: Sequence[KeyColumn]) -> Callable[[Sequence[Any]], bytes]:
        """Return what spells keys as Feast does; see ``StoredForm.key_encoder``.

        Raises:
            StoreError: A column has a type that Feast has no key for.
        """
        return key_encoder(columns, version=self._key_version)

    def rows(self, view: FeatureView, schema: pa.Schema, features: Sequence[str]) -> FeastRows:
        """Return how a view's rows are read; see ``StoredForm.rows``."""
        return FeastRows(view, schema, features)


class _Group(NamedTuple):
    """Columns of one type of numbers, which are read together."""

    numbers: Numbers
    places: tuple[int, ...]


class FeastRows:
    """A view's rows as Feast wrote them; see ``online.form.StoredRows``.

    Args:
        view: The view.
        schema: Its features with their types.
        features: The features that rows have, in order.

    Raises:
        StoreError: A feature has no type.
    """

    def __init__(self, view: FeatureView, schema: pa.Schema, features: Sequence[str]) -> None:
        for name in features:
            if name not in schema.names:
                raise StoreError(
                    f'has no type for feature "{name}"', object=view.title, hint=nearest(name, schema.names)
                )
        self._title = view.title
        self.names = tuple(features)
        self.dtypes = tuple(dtype_of_arrow(name, schema.field(name).type) for name in features)
        self._readers = [value_reader(dtype) for dtype in self.dtypes]
        self._groups = _groups(self.dtypes)
        grouped = set(chain.from_iterable(group.places for group in self._groups))
        self._others = tuple(place for place in range(len(self.names)) if place not in grouped)

    def absent(self, values: Sequence[Sequence[bytes | None]]) -> list[int]:
        """Return at which places the view has no event time: it was never written there."""
        return [i for i, row in enumerate(values) if row[0] is None]

    def block(self, rows: Sequence[Sequence[bytes | None]]) -> Block:
        """Decode rows that are there.

        Raises:
            StoredRowError: A value is damaged, or of another type than its feature is declared with.
        """
        if not rows:
            return Block([[] for _ in self.names], None, 0)
        stored = list(zip(*rows, strict=True))[1:]
        columns: list[list[Any]] = [[]] * len(stored)
        nulls, left = 0, self._others
        for group in self._groups:
            found = self._together(group, stored, len(rows))
            if found is None:
                left = (*left, *group.places)
                continue
            for place, column, has_null in found:
                columns[place] = column
                nulls |= has_null << place
        for place in left:
            columns[place] = column = self._one_by_one(place, stored[place])
            nulls |= (None in column) << place
        return Block(columns, None, nulls)

    def times(self, rows: Sequence[Sequence[bytes | None]]) -> list[int]:
        """Return the rows' event times, microseconds since epoch, UTC.

        Raises:
            StoredRowError: One cannot be read.
        """
        stored = [row[0] or b"" for row in rows]
        known = {data: self._time(data) for data in set(stored)}  # rows of one run often share it
        return [known[data] for data in stored]

    def _together(
        self, group: _Group, stored: Sequence[Sequence[bytes | None]], n: int
    ) -> list[tuple[int, list[Any], bool]] | None:
        """Read a group's columns at once, and say which have a null; None where it has to be one by one."""
        numbers, places = group
        if n * len(places) < numbers.many:
            return None
        values = list(chain.from_iterable([stored[place] for place in places]))
        missing: list[int] = []
        if not all(values):
            missing = [i for i, value in enumerate(values) if not value]
            values = [value or numbers.filler for value in values]
        found = numbers.read(values)
        if found is None:
            return None
        for i in missing:
            found[i] = None
        with_null = {i // n for i in missing}
        return [(place, found[j * n : (j + 1) * n], j in with_null) for j, place in enumerate(places)]

    def _one_by_one(self, place: int, values: Sequence[bytes | None]) -> list[Any]:
        read = self._readers[place]
        try:
            return [read(value) if value else None for value in values]
        except ValueError as error:
            raise StoredRowError(
                f'feature "{self.names[place]}" of a row that Feast stored cannot be read: {error}',
                object=self._title,
                expected=self.dtypes[place],
                hint=_REMAKE,
            ) from error

    def _time(self, data: bytes) -> int:
        try:
            return time_of(data)
        except ValueError as error:
            raise StoredRowError(
                f"the event time of a row that Feast stored cannot be read: {error}",
                object=self._title,
                hint=_REMAKE,
            ) from error


_REMAKE = "Materialise the view again, with Feast."


def _groups(dtypes: Sequence[DType]) -> list[_Group]:
    places: dict[DType, list[int]] = {}
    for place, dtype in enumerate(dtypes):
        places.setdefault(dtype, []).append(place)
    readers = {dtype: numbers_reader(dtype) for dtype in places}
    return [
        _Group(numbers, tuple(places[dtype])) for dtype, numbers in readers.items() if numbers is not None
    ]
