"""Answers of which every value is there, from stored rows to JSON without a Python object a value.

The reader of ``served`` decides value by value; this is the same answer where there is nothing to decide, which is
the case of nearly all requests (see ``online.whole``). Numbers of a view become JSON in one piece, which is then cut at
its columns: JSON's numbers hold neither commas nor brackets. What stands between them is prepared once a service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.online.answer import Status
from mlflow_core.online.backend import Found
from mlflow_core.online.layout import codec_of
from mlflow_core.online.reader import Asked, Reader
from mlflow_core.online.whole import Whole, WholeEntity, WholeRows
from mlflow_core.serve.stamps import single_stamp, stamps

__all__ = ["WholeAnswers", "whole_answers"]


class _View(NamedTuple):
    ask: int
    column: int
    rows: WholeRows
    name: str
    names: tuple[str, ...]


class WholeAnswers:
    """Writes the whole answers of one reader.

    Args:
        views: The views in output order, and where the store's answer has them.
        types: Names of the features' types.
    """

    def __init__(self, views: Sequence[_View], types: Mapping[str, str]) -> None:
        self._views = views
        names = [name for view in views for name in view.names]
        slots = b",".join(b"%b:[%%b]" % orjson.dumps(name).replace(b"%", b"%%") for name in names)
        present = orjson.dumps(dict.fromkeys(names, Status.PRESENT.value)).replace(b"%", b"%%")
        told = orjson.dumps({name: types[name] for name in names}).replace(b"%", b"%%")
        self._compact = b'{"features":{%b},"statuses":%b}' % (slots, present)
        self._typed = b'%b,"types":%b}' % (self._compact[:-1], told)
        self._places = [(view.ask, view.column) for view in views]
        entity = WholeEntity([view.rows for view in views])
        self._entity = entity if entity.possible else None
        self.counted = tuple((view.name, len(view.names)) for view in views)
        """The views, and how many of their features an answer has."""

    def read(self, asked: Asked, found: Sequence[Found], now_us: int) -> list[Whole] | None:
        """Read what the store found, if all of it is whole.

        Args:
            asked: What the store was asked.
            found: What it found.
            now_us: When TTL counts, microseconds since epoch, UTC.
        """
        if asked.n_rows == 0 or any(rows is not None for rows in asked.rows):
            return None
        if asked.n_rows == 1 and self._entity is not None:
            return self._entity.read([found[ask][0][column] for ask, column in self._places], now_us)
        wholes = []
        for ask, column, rows, _, _ in self._views:
            whole = rows.read([of_key[column] for of_key in found[ask]], now_us)
            if whole is None:
                return None
            wholes.append(whole)
        return wholes

    def feast(self, wholes: Sequence[Whole], n_rows: int) -> bytes:
        """Return the features' results as Feast's server writes them, without the brackets around them."""
        parts = []
        for numbers, times in wholes:
            if n_rows == 1:
                tail = _SINGLE_TAIL % single_stamp(times if isinstance(times, int) else times[0])
                text = orjson.dumps(numbers)[1:-1].replace(b",", tail + b"," + _VALUES)
            else:
                tail = _tail(times, n_rows) if isinstance(times, int) else _tail_of(times)
                text = _dumped(numbers)[2:-2].replace(b"],[", tail + b"," + _VALUES)
            parts.append(_VALUES + text + tail)
        return b",".join(parts)

    def compact(self, wholes: Sequence[Whole], n_rows: int, *, types: bool = False) -> bytes:
        """Return the answer as ``/v1/features`` writes it, without times."""
        pieces: list[bytes] = []
        for numbers, _ in wholes:
            if n_rows == 1:
                pieces += orjson.dumps(numbers)[1:-1].split(b",")
            else:
                pieces += _dumped(numbers)[2:-2].split(b"],[")
        return (self._typed if types else self._compact) % tuple(pieces)


def whole_answers(reader: Reader, schemas: Mapping[str, pa.Schema]) -> WholeAnswers | None:
    """Return what writes a reader's whole answers; None where values have to be decided or computed.

    Args:
        reader: Reads packed rows.
        schemas: For each view its key columns and features with their types.
    """
    if reader.computes or not reader.plan.columns:
        return None
    views: list[_View] = []
    blocks: dict[int, tuple[int, int, list[int]]] = {}
    for ask, column, place, feature in reader.places():
        if place in blocks and place != list(blocks)[-1]:
            return None  # a view's columns stand apart
        blocks.setdefault(place, (ask, column, []))[2].append(feature)
    for place, (ask, column, features) in blocks.items():
        read = reader.plan.reads[place]
        wanted = [read.features[i] for i in features]
        ttl = None if read.view.ttl is None else int(read.view.ttl)
        windows = frozenset(window.name for window in read.view.windows)
        rows = WholeRows(codec_of(read.view, schemas[read.view.name]), wanted, windows, ttl)
        if not rows.possible:
            return None
        views.append(_View(ask, column, rows, read.view.name, tuple(map(read.output, wanted))))
    types = {name: str(dtype_of_arrow(name, kind)) for name, kind in reader.types.items()}
    return WholeAnswers(views, types)


_VALUES = b'{"values":['
_SINGLE_TAIL = b'],"statuses":["PRESENT"],"event_timestamps":[%b]}'
_KEPT_ROWS = 128  # 4,096 tails of so many rows are some 20 MB; longer ones are not worth what they would take


def _dumped(numbers: Any) -> bytes:
    return orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)


def _tail(time: int, n_rows: int) -> bytes:
    return _kept_tail(time, n_rows) if n_rows <= _KEPT_ROWS else _tail_of([time] * n_rows)


@lru_cache(maxsize=4096)
def _kept_tail(time: int, n_rows: int) -> bytes:
    return _tail_of([time] * n_rows)


def _tail_of(times: Sequence[int]) -> bytes:
    statuses = orjson.dumps([Status.PRESENT.value] * len(times))
    return b'],"statuses":%b,"event_timestamps":%b}' % (statuses, stamps(times))
