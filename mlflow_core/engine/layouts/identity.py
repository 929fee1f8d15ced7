"""Identities: which rows of a source are versions of one event, wherever its files and keys are.

Each part's layout keeps its rows' identities and times in order of a hash of the identity, with the places that the
rows have in the layout. A retrieval brings the parts together, range of hashes by range, and writes down when each
version that was replaced ends; what was never replaced, the usual case, is not mentioned. So an appended file costs
its own layout and one look over the identities. What a version is, ``mlflow_core.engine.events.versions`` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.engine.events.arrays import codes
from mlflow_core.engine.events.keys import stable_hash
from mlflow_core.engine.events.versions import END, ROW, timeline_of
from mlflow_core.engine.files.entries import facts_of, write_entry
from mlflow_core.engine.files.parted import integers, mapped, one_array, write_batch
from mlflow_core.engine.times import NEVER, Int64
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import Source

__all__ = ["Ends", "EndsSpec", "identity_columns", "write_ends", "write_identity"]

FORMAT = 1
_IDENTITY = "identity.arrow"
_ENDS = "ends.arrow"
_CODE = "__code"
_PLACE = "__place"
_A_PART = 1 << 40  # rows of a part at most; leaves room for 8 million parts in an int64
_BEYOND = 2**63 - 1


def identity_columns(source: Source) -> tuple[str, ...]:
    """Return the columns that say when a row counts and of which event it is a version."""
    named = (source.event_time, source.known_at, source.created, source.event_id, source.deleted)
    return tuple(dict.fromkeys(name for name in named if name is not None))


def write_identity(events: pa.Table, source: Source, order: Int64, folder: Path) -> None:
    """Write a part's identities beside its layout; rows without one are events of their own and left out.

    Args:
        events: The part's rows with ``identity_columns``, (n,).
        source: The source.
        order: Which of them stand in the layout, in its order, int64 (n_rows,).
        folder: The layout's.
    """
    place = np.full(events.num_rows, -1, np.int64)  # a row without a key can still replace one that has one
    place[order] = np.arange(len(order))
    kept = events.select(identity_columns(source))
    kept = kept.append_column(ROW, pa.array(np.arange(len(place)))).append_column(_PLACE, pa.array(place))
    kept = kept.filter(pc.is_valid(kept[source.event_id]))
    code = (stable_hash(kept, [str(source.event_id)]) >> np.uint64(1)).astype(np.int64)
    by_code = np.argsort(code, kind="stable")
    kept = kept.append_column(_CODE, pa.array(code)).take(pa.array(by_code))
    columns = [one_array(column) for column in kept.columns]
    write_batch(pa.RecordBatch.from_arrays(columns, kept.column_names), folder / _IDENTITY)


@dataclass(frozen=True, slots=True)
class EndsSpec:
    """Whose versions' ends are found, of which identities; small, picklable.

    Attributes:
        read: The view, whose source and availability apply, and the clock.
        entries: The names of all parts' layouts, in source order.
        low: The least code of an identity.
        high: The first code beyond.
    """

    read: ViewRead
    entries: tuple[str, ...]
    low: int
    high: int

    @property
    def entry_name(self) -> str:
        """The name of the entry, which is made of all that decides its content."""
        view = self.read.view
        served = self.read.clock == "served" and view.availability is not None
        delay = int(view.availability.delay) if served and view.availability is not None else None
        content = ["ends", FORMAT, list(self.entries), self.read.clock, delay, self.low, self.high]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]


def write_ends(folder: Path, spec: EndsSpec) -> None:
    """Find when replaced versions end, unless that was done before.

    Args:
        folder: The cache's; the parts' layouts are there.
        spec: Of which identities.

    Raises:
        SourceError: A time column holds no times, or a delete has no event time.
        EngineError: The folder cannot be written to.
    """
    entry = folder / spec.entry_name
    if facts_of(entry) is None:
        write_entry(entry, partial(_fill, folder, spec))


def _fill(folder: Path, spec: EndsSpec, draft: Path) -> dict[str, Any]:
    source = spec.read.view.source
    found = _twice(
        pa.concat_tables([_between(folder / name, part, spec) for part, name in enumerate(spec.entries)]),
        str(source.event_id),
    )
    end = timeline_of(found, spec.read.view, spec.read.clock).end
    place = integers(found[_PLACE])
    told = np.flatnonzero((end != NEVER) & (place >= 0))
    told = told[np.argsort(place[told])]
    table = {_PLACE: pa.array(place[told]), END: pa.array(end[told])}
    write_batch(pa.RecordBatch.from_pydict(table), draft / _ENDS)
    return {
        "kind": "versions",
        "source": source.name,
        "part": f"{len(spec.entries)} parts",
        "rows": len(told),
    }


def _between(entry: Path, part: int, spec: EndsSpec) -> pa.Table:
    table = mapped(entry / _IDENTITY)
    code = integers(table[_CODE])
    start = int(np.searchsorted(code, spec.low))
    stop = int(np.searchsorted(code, spec.high)) if spec.high <= _BEYOND else len(code)
    kept = table.slice(start, stop - start).drop_columns([_CODE])
    place = integers(kept[_PLACE])
    moved = {
        ROW: integers(kept[ROW]) + part * _A_PART,
        _PLACE: np.where(place < 0, -1, place + part * _A_PART),
    }
    for name, values in moved.items():
        kept = kept.set_column(kept.column_names.index(name), name, pa.array(values, pa.int64()))
    return kept


def _twice(table: pa.Table, identity: str) -> pa.Table:
    """Only versions of events that have several; mostly that is next to nothing."""
    code = codes(table[identity])
    several = np.bincount(code, minlength=1)[code] > 1 if len(code) else np.zeros(0, np.bool_)
    return table.filter(pa.array(several)).combine_chunks()


@dataclass(frozen=True, slots=True)
class Ends:
    """Ends of replaced versions, opened; rows are counted over all parts.

    Attributes:
        found: Pairs of places, ascending, and ends, int64 (n,) each.
    """

    found: tuple[tuple[Int64, Int64], ...]

    @staticmethod
    def open(folder: Path, names: Sequence[str]) -> Ends:
        """Open the entries of all ranges of identities.

        Args:
            folder: The cache's.
            names: Their names.

        Raises:
            EngineError: This process does not see them.
        """
        tables = [mapped(folder / name / _ENDS) for name in names]
        return Ends(tuple((integers(table[_PLACE]), integers(table[END])) for table in tables))

    def of(self, part: int, begin: int, n: int) -> pa.Array:
        """Return the ends of rows of a part's layout.

        Args:
            part: Which part, in source order.
            begin: The first row.
            n: How many.

        Returns:
            First evaluation time at which a greater version is visible, int64 (n,).
        """
        end = np.full(n, NEVER, np.int64)
        base = part * _A_PART + begin
        for place, ends in self.found:
            start, stop = np.searchsorted(place, [base, base + n])
            end[place[start:stop] - base] = ends[start:stop]
        return pa.array(end)
