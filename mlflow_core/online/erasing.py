"""Erasing entities from the online store: tombstones under their keys, and under every longer key that holds them.

A view of exactly the erased key columns has one key for an entity, known or not. A view whose keys have further columns
has any number of them: those that are stored are looked for. What was erased is decided elsewhere
(``mlflow_core.plan.erasures``); a store that has lost its tombstones gets them back here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from mlflow_core.online.backend import Ask, OnlineBackend, OnlineTable, Row
from mlflow_core.online.head import version_of
from mlflow_core.online.keys import decode_key, encode_key
from mlflow_core.online.reached import MARK
from mlflow_core.plan.erasures import Erasures

__all__ = ["bury", "unerased"]

_AT_ONCE = 1_000


def bury(
    backend: OnlineBackend, tables: Iterable[OnlineTable], erasures: Erasures, *, again: bool = False
) -> Mapping[str, int]:
    """Leave the tombstones of erased entities.

    Args:
        backend: The online store.
        tables: The project's views; those whose keys do not hold an erased one are left alone.
        erasures: Who was erased.
        again: They were erased before: a value of a greater version than the erasure's moment stays. Else all that is
            stored now is taken away.

    Returns:
        For each view that can hold them, from how many keys a value was taken away.

    Raises:
        StoreError: The store cannot be read or written; burying again is harmless.
    """
    taken: dict[str, int] = {}
    for table in tables:
        here = erasures.within(table.keys)
        if not here:
            continue
        by_time: dict[int, list[bytes]] = {}
        for key, erased_at in _keys(backend, table, here):
            by_time.setdefault(erased_at, []).append(key)
        taken[table.view] = sum(
            backend.erase([Ask(table.keys, (table.view,), keys)], erased_at if again else None)
            for erased_at, found in by_time.items()
            for keys in _some(found)
        )
    return taken


def unerased(table: OnlineTable, rows: Sequence[Row], erasures: Erasures) -> Sequence[Row]:
    """Leave out rows of erased entities from before their erasure; a store may never have had their tombstones.

    Args:
        table: The view.
        rows: Its rows, whose versions' times are those of their events.
        erasures: Who was erased.
    """
    here = erasures.within(table.keys)
    if not here:
        return rows
    until = _lookup(table, here)
    return [row for row in rows if (at := until(row[0])) is None or version_of(row[1])[0] > at]


def _keys(backend: OnlineBackend, table: OnlineTable, erasures: Erasures) -> Iterator[tuple[bytes, int]]:
    """The keys of a view that hold an erased one, and when that was erased."""
    whole = [one for one in erasures.entries if len(one.columns) == len(table.keys)]
    for one in whole:
        values = dict(zip(one.columns, one.key, strict=True))
        yield encode_key([values[column] for column in table.keys]), one.erased_at
    if len(whole) == len(erasures.entries):
        return
    until = _lookup(table, erasures)
    for key in backend.keys(table):
        if key != MARK and (at := until(key)) is not None:  # a mark is of the view, not of an entity
            yield key, at


def _lookup(table: OnlineTable, erasures: Erasures) -> Callable[[bytes], int | None]:
    """Return what says until when a key is erased; None where it is not."""
    parts = [
        ([table.keys.index(column) for column in columns], times)
        for columns, times in erasures.by_columns().items()
    ]

    def until(key: bytes) -> int | None:
        values = decode_key(key)
        found = [times.get(tuple(values[place] for place in places)) for places, times in parts]
        return max((at for at in found if at is not None), default=None)

    return until


def _some(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
