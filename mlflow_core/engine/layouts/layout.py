"""Layouts: one part of a source as a sorted run in files, written once and found again by what decides its content.

Keys stand in order of a hash of theirs, so a bucket of keys is a range of hashes and a slice of the run: the number of
buckets is not a property of the layout, and a reader takes any range out of memory-mapped files without copying. Of
a source with ``event_id`` there is a second file, its rows in order of a hash of their identities
(``mlflow_core.engine.layouts.identity``). Where entries are kept, and for how long, is the cache's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.engine.events.keys import hash_codes
from mlflow_core.engine.events.run import Run, SortedEvents, sort_events
from mlflow_core.engine.files.entries import facts_of, write_entry
from mlflow_core.engine.files.parted import integers, mapped, one_array, write_batch
from mlflow_core.engine.layouts.identity import identity_columns, write_identity
from mlflow_core.engine.times import Int64
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasures
from mlflow_core.sources import SourcePart
from mlflow_core.spec import FeatureView

__all__ = ["Layout", "LayoutSpec", "between_codes", "code_edges", "write_layout"]

FORMAT = 1
_CODE = "__code"
_FIRST = "__first"
_KEYS = "keys.arrow"
_ROWS = "rows.arrow"
_BITS = 63


def code_edges(n: int) -> list[int]:
    """Cut all codes into ranges of the same size.

    Args:
        n: How many.

    Returns:
        Range b is the codes from ``edges[b]`` to ``edges[b + 1] - 1``; the last edge is beyond int64.

    Example:
        >>> code_edges(2)
        [0, 4611686018427387904, 9223372036854775808]
    """
    return [(b << _BITS) // n for b in range(n + 1)]


def between_codes(code: Int64, low: int, high: int) -> tuple[int, int]:
    """Return between which places codes are from ``low`` to ``high - 1``.

    Args:
        code: Codes, ascending, (n,).
        low: The least.
        high: The first beyond; ``2**63`` is beyond all.
    """
    start = int(np.searchsorted(code, low))
    return start, int(np.searchsorted(code, high)) if high < 1 << _BITS else len(code)


@dataclass(frozen=True, slots=True)
class LayoutSpec:
    """How the parts of a source are laid out; small, picklable.

    Attributes:
        view: Whose keys and source they are; several views of one source and keys share a layout.
        columns: The columns that are kept, in the source's order.
        erased: Of which keys rows are not written, and up to when.
    """

    view: FeatureView
    columns: tuple[str, ...]
    erased: Erasures = NOTHING_ERASED

    def entry_name(self, part: SourcePart) -> str:
        """Return the name of a part's layout, which is made of all that decides its content."""
        source = self.view.source
        columns = [source.event_time, source.known_at, source.created, source.event_id, source.deleted]
        content = [FORMAT, part.fingerprint, list(self.view.keys), list(self.columns), columns]
        if self.erased:
            content.append(self.erased.digest)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Layout:
    """A part's layout, opened: its columns are views of mapped files.

    Attributes:
        keys: The distinct keys in order of their codes, (n_keys,).
        code: Their codes, ascending, int64 (n_keys,).
        first: Where each key's rows start, int64 (n_keys,).
        rows: The rows in order, (n_rows,).
    """

    keys: pa.Table
    code: Int64
    first: Int64
    rows: pa.Table

    @staticmethod
    def open(entry: Path) -> Layout:
        """Open a part's layout.

        Args:
            entry: Its folder.

        Raises:
            EngineError: This process does not see it.
        """
        keys, rows = mapped(entry / _KEYS), mapped(entry / _ROWS)
        return Layout(keys.drop_columns([_CODE, _FIRST]), integers(keys[_CODE]), integers(keys[_FIRST]), rows)

    def between(self, low: int, high: int) -> tuple[Run, int]:
        """Take the keys of a range of codes out; no row is copied.

        Args:
            low: The least code.
            high: The first code beyond.

        Returns:
            The run, and where in this layout its first row stands.
        """
        start, stop = between_codes(self.code, low, high)
        begin, end = (
            int(self.first[at]) if at < len(self.first) else self.rows.num_rows for at in (start, stop)
        )
        run = Run(
            self.keys.slice(start, stop - start),
            np.append(self.first[start:stop], end) - begin,
            self.rows.slice(begin, end - begin),
            None,
            self.code[start:stop],
        )
        return run, begin


def write_layout(folder: Path, part: SourcePart, spec: LayoutSpec) -> None:
    """Lay a part out, unless that was done before.

    Args:
        folder: The cache's.
        part: The part.
        spec: For which keys, with which columns.

    Raises:
        SourceError: The part cannot be read, a key or time column is none, or a delete has no event time.
        EngineError: The folder cannot be written to.
    """
    entry = folder / spec.entry_name(part)
    if facts_of(entry) is None:
        columns = dict.fromkeys([*spec.view.keys, *spec.columns, *identity_columns(spec.view.source)])
        held = _Held(part.read(tuple(columns)))
        write_entry(entry, partial(_fill, held, part.name, spec))


@dataclass(slots=True)
class _Held:
    """A table whose columns are given away one by one, so that their memory is free again early."""

    table: pa.Table | None

    def give(self) -> pa.Table:
        table, self.table = self.table, None
        assert table is not None
        return table


def _fill(held: _Held, part: str, spec: LayoutSpec, folder: Path) -> Mapping[str, Any]:
    events = held.give()
    done = sort_events(events, spec.view, columns=None, bucket=hash_codes, erased=spec.erased)
    order, facts = cast(Int64, done.run.order), _facts(done, part, spec, events.num_rows)
    if spec.view.source.event_id is not None:
        write_identity(events, spec.view.source, order, folder)
    write_batch(_keys_of(done.run), folder / _KEYS)
    del done  # it holds all columns
    arrays, places = [], pa.array(order)
    for name in spec.columns:
        column = events[name]
        if name not in spec.view.keys:
            events = events.drop_columns([name])
        arrays.append(_in_order(column, places))
        del column
    write_batch(pa.RecordBatch.from_arrays(arrays, names=list(spec.columns)), folder / _ROWS)
    return facts


def _facts(done: SortedEvents, part: str, spec: LayoutSpec, n_rows: int) -> Mapping[str, Any]:
    return {
        "kind": "layout",
        "source": spec.view.source.name,
        "part": part,
        "keys": list(spec.view.keys),
        "columns": list(spec.columns),
        "rows": n_rows,
        "dropped_keys": done.dropped_keys,
        "dropped_times": done.dropped_times,
    }


def _keys_of(run: Run) -> pa.RecordBatch:
    # Not appended: a table without columns, of a view without an entity, is one without rows.
    beside = {_CODE: pa.array(run.code), _FIRST: pa.array(run.first[:-1])}
    arrays = [*map(one_array, run.keys.columns), *beside.values()]
    return pa.RecordBatch.from_arrays(arrays, [*run.keys.column_names, *beside])


def _in_order(column: pa.ChunkedArray, order: pa.Array) -> pa.Array:
    whole = one_array(column)
    if isinstance(whole.type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(whole.type, pc.take(whole.storage, order, boundscheck=False))
    return pc.take(whole, order, boundscheck=False)
