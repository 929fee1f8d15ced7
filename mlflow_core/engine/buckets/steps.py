"""What a retrieval on a cluster has to do, and the first of it: what the cache lacks is laid out, rows are parted.

Views of one source and keys share the layouts of its parts, with the columns of all; views joined on the same columns
of the entity rows share the rows' parting and are computed together. Parts that hold no event that can matter are
left out. Nothing here computes a feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from mlflow_core.engine.buckets.bucketed import Joined, Limits
from mlflow_core.engine.buckets.rows import PartedRows
from mlflow_core.engine.cluster.tasks import Amount, Call, n_threads, run_tasks
from mlflow_core.engine.estimate import row_width
from mlflow_core.engine.events.keys import check_key_types
from mlflow_core.engine.files.entries import facts_of
from mlflow_core.engine.inputs import SourceRead, read_spans, rows_span, source_reads
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.layouts.identity import EndsSpec, write_ends
from mlflow_core.engine.layouts.layout import LayoutSpec, code_edges, write_layout
from mlflow_core.engine.layouts.stored import Stored
from mlflow_core.engine.views.view import value_columns
from mlflow_core.plan.erasures import NOTHING_ERASED
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.sources import SourceListing, SourcePart
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "Cluster",
    "LayoutPlan",
    "Steps",
    "end_layouts",
    "laid_out",
    "lay_out",
    "layout_spec",
    "plan_steps",
]

BUCKET_BYTES = 32_000_000  # of the largest source; smaller ones take less memory and cost no time
MOST_BUCKETS = 4_096
_IDENTITIES_AT_ONCE = 2_000_000
_BYTES_A_ROW = 64  # of an entity row's key, time and place


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where distributed work is done.

    Attributes:
        client: The cluster's client; None is this process, which does one thing after the other.
        workdir: A folder that this process and all workers reach.
        cache: The cache of layouts, in another such folder.
        buckets: Into how many parts keys are parted; None chooses by size.
        limits: How much a worker's thread works on at once.
    """

    client: Client | None
    workdir: Path
    cache: Cache
    buckets: int | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Steps:
    """What there is to do.

    Attributes:
        keys: The sets of the entity rows' columns that views are joined on.
        joined: For each of them, its views.
        layouts: Each part to be laid out and how, by the entry's name.
        ends: Each range of identities of which versions' ends are found, by the entry's name.
        n_buckets: Into how many parts keys are parted.
    """

    keys: tuple[tuple[str, ...], ...]
    joined: tuple[Joined, ...]
    layouts: dict[str, tuple[SourcePart, LayoutSpec]]
    ends: dict[str, EndsSpec]
    n_buckets: int


def plan_steps(cluster: Cluster, plan: RetrievalPlan, spine: pa.Table, *, base: str) -> Steps:
    """Say what a retrieval has to do.

    Args:
        cluster: Where.
        plan: Which views.
        spine: Entity rows, (n,).
        base: Folder of the feature repository.

    Raises:
        SourceError: A source cannot be read or lacks a column, or the entity rows' keys do not fit it.
        PlanError: A view does not fit its source.
    """
    spans = read_spans(plan.reads, rows_span(spine, plan.time_column))
    planned = LayoutPlan(cluster)
    stored: dict[int, Stored] = {}
    for one in source_reads(plan, spans, base=base):
        for place in one.places:
            check_key_types(one.listing.schema, spine.schema, plan.reads[place])
        stored |= planned.source(one, plan.reads)
    by_keys: dict[tuple[str, ...], list[int]] = {}
    for place, read in enumerate(plan.reads):
        by_keys.setdefault(tuple(column for _, column in read.keys), []).append(place)
    # Layouts are without what was erased, so nothing else need know of it: tasks stay small.
    seen = plan.without(NOTHING_ERASED).reads
    joined = [
        Joined(tuple(places), tuple(seen[p] for p in places), tuple(stored[p] for p in places))
        for places in by_keys.values()
    ]
    n_features = sum(len(read.features) for read in plan.reads)
    asked = spine.num_rows * (_BYTES_A_ROW + 8 * n_features) // 2
    return Steps(tuple(by_keys), tuple(joined), planned.layouts, planned.ends, planned.buckets(asked))


@contextmanager
def laid_out(
    cluster: Cluster, steps: Steps, parted: Sequence[PartedRows], progress: Progress
) -> Iterator[None]:
    """Lay out what the cache lacks and part the entity rows; what is used stays for the time of a ``with`` block.

    Args:
        cluster: Where.
        steps: What there is to do.
        parted: How the entity rows are parted.
        progress: Who is told.

    Raises:
        SourceError: A part of a source cannot be read.
        EngineError: The cache cannot be written to, or as ``run_tasks``.
    """
    cache, client = cluster.cache, cluster.client
    missing: list[str] = []
    try:
        with cache.leased([*steps.layouts, *steps.ends]):
            missing = _missing(cache.folder, steps.layouts)
            calls: list[Call] = [(_lay_out, cache.folder, *steps.layouts[name]) for name in missing]
            calls += [
                (PartedRows.write, one, number) for one in parted for number in range(one.rows.n_ranges)
            ]
            found = dict.fromkeys(steps.layouts[name][1].view.source.name for name in missing)
            if calls:
                run_tasks(client, calls, f"parting {', '.join(found) or 'entity rows'}", "parts", progress)
            unended = _missing(cache.folder, steps.ends)
            missing += unended
            calls = [(_end, cache.folder, steps.ends[name]) for name in unended]
            found = dict.fromkeys(steps.ends[name].read.view.source.name for name in unended)
            if calls:
                run_tasks(client, calls, f"matching versions of {', '.join(found)}", "ranges", progress)
            yield
    finally:
        if missing:
            cache.trim()


def lay_out(folder: Path, plan: LayoutPlan) -> list[Call]:
    """Return the calls that lay out what the cache lacks of a plan.

    Args:
        folder: The cache's.
        plan: Which layouts.
    """
    return [(_lay_out, folder, *plan.layouts[name]) for name in _missing(folder, plan.layouts)]


def end_layouts(folder: Path, plan: LayoutPlan) -> list[Call]:
    """Return the calls that find the ends of replaced versions which the cache lacks; all layouts are there.

    Args:
        folder: The cache's.
        plan: Which layouts.
    """
    return [(_end, folder, plan.ends[name]) for name in _missing(folder, plan.ends)]


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if facts_of(folder / name) is None]


def _lay_out(folder: Path, part: SourcePart, spec: LayoutSpec) -> Amount:
    write_layout(folder, part, spec)
    return Amount(rows=part.rows, bytes=part.bytes)


def _end(folder: Path, spec: EndsSpec) -> Amount:
    write_ends(folder, spec)
    return Amount()


class LayoutPlan:
    """Layouts and ends, each once, as the sources of a plan are looked at one by one.

    Args:
        cluster: Where they are made.

    Attributes:
        layouts: Each part to be laid out and how, by the entry's name.
        ends: Each range of identities of which versions' ends are found, by the entry's name.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._most = 0
        self.layouts: dict[str, tuple[SourcePart, LayoutSpec]] = {}
        self.ends: dict[str, EndsSpec] = {}

    def source(
        self, one: SourceRead, reads: Sequence[ViewRead] | Mapping[int, ViewRead]
    ) -> dict[int, Stored]:
        """Say where the events of each read of a source will be.

        Args:
            one: The source.
            reads: All reads, by place.
        """
        parts = () if one.between is None else one.listing.parts(one.between)
        by_keys: dict[tuple[str, ...], list[int]] = {}
        for place in one.places:
            by_keys.setdefault(reads[place].view.keys, []).append(place)
        stored = {}
        for places in by_keys.values():
            spec = layout_spec(one.listing, [reads[place] for place in places])
            entries = {spec.entry_name(part): (part, spec) for part in parts}
            self.layouts |= entries
            schema = one.listing.schema
            width = row_width(schema.field(name).type for name in spec.columns)
            self._most = max(self._most, width * sum(part.rows for part in parts))
            for place in places:
                stored[place] = self._ended(
                    Stored(
                        self._cluster.cache.folder,
                        replace(spec, erased=NOTHING_ERASED),
                        schema,
                        tuple(entries),
                        None,
                    ),
                    parts,
                    reads[place].without(NOTHING_ERASED),
                )
        return stored

    def _ended(self, stored: Stored, parts: Sequence[SourcePart], read: ViewRead) -> Stored:
        if read.view.source.event_id is None:
            return stored
        n = 1
        while n * _IDENTITIES_AT_ONCE < sum(part.rows for part in parts):
            n *= 2
        edges = code_edges(n)
        specs = [EndsSpec(read, stored.entries, low, high) for low, high in pairwise(edges)]
        named = {spec.entry_name: spec for spec in specs if parts}
        self.ends |= named
        return replace(stored, ends=tuple(named))

    def buckets(self, asked: int) -> int:
        """Return into how many parts keys go.

        Args:
            asked: Bytes of entity rows.
        """
        if self._cluster.buckets is not None:
            return self._cluster.buckets
        threads = n_threads(self._cluster.client)
        return min(MOST_BUCKETS, max(1, threads, -(-max(self._most, asked) // BUCKET_BYTES)))


def layout_spec(listing: SourceListing, reads: Sequence[ViewRead]) -> LayoutSpec:
    """Say how a source is laid out for the views of one set of keys: with the columns of all.

    Args:
        listing: The source as it was found.
        reads: The views, at least one.
    """
    names = listing.schema.names
    wanted = {name for read in reads for name in value_columns(read, names)}
    # What was erased goes by key columns, so it is the same for all of them.
    return LayoutSpec(reads[0].view, tuple(name for name in names if name in wanted), reads[0].erased)
