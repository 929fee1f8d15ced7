"""The right to erasure, through everything that the product keeps: one entity, everywhere, and for good.

First the erasure is recorded; from then on no retrieval, dataset or materialisation sees the entity's events from
before it. Then what is kept of them is taken away: online values, which leave tombstones, layouts in caches, datasets,
and what steps made of those. All of it may be repeated: a run that was interrupted is completed by the next. What is
not ours, the sources, is only looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.engine.events.erasing import erased_until, without_erased
from mlflow_core.engine.layouts.cache import Cache, CacheEntry
from mlflow_core.engine.times import EARLIEST
from mlflow_core.errors import MlcoreError, SourceError
from mlflow_core.metadata import DatasetRecord, ErasureRecord, MetadataStore
from mlflow_core.online.backend import OnlineBackend, OnlineTable
from mlflow_core.online.erasing import bury
from mlflow_core.online.keys import encode_key
from mlflow_core.plan.erasures import Erasure, Erasures, KeyValue
from mlflow_core.sources import SourceListing, open_source
from mlflow_core.spec import FeatureView
from mlflow_core.workflow.derived import RemovedOutput, made_of, remove_outputs

__all__ = [
    "Erased",
    "Places",
    "RemovedDataset",
    "RemovedLayouts",
    "SourceRows",
    "check_dataset",
    "erase",
    "rows_left",
]

_ALL = 2**31 - 1


@dataclass(frozen=True)
class Places:
    """Where rows of an entity may be kept.

    Attributes:
        metadata: The project's record of erasures and datasets.
        tables: The project's views in the online store.
        backend: The online store; None where it is not ours and no key can be erased.
        artifacts: Where datasets are kept.
        caches: Where layouts are kept.
    """

    metadata: MetadataStore
    tables: Sequence[OnlineTable]
    backend: OnlineBackend | None
    artifacts: ArtifactStore
    caches: Sequence[Cache] = ()


@dataclass(frozen=True)
class RemovedLayouts:
    """Layouts that may hold the entity's rows.

    Attributes:
        entries: How many were removed.
        bytes: How large they were.
        in_use: How many others a running retrieval still uses: nobody will find them any more, but their files stay
            until ``mlcore cache clean``.
    """

    entries: int = 0
    bytes: int = 0
    in_use: int = 0


@dataclass(frozen=True)
class RemovedDataset:
    """A dataset that held the entity's rows.

    Attributes:
        id: Its number.
        name: Its pipeline.
        content_hash: What it was.
        rows: How many of its rows were the entity's.
        runs: The runs that used it, which keep their records, reports and models.
    """

    id: int
    name: str
    content_hash: str
    rows: int
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Erased:
    """What was erased where.

    Attributes:
        erasure: The record; it holds the key.
        online: For each view of the online store from how many keys a value was taken away; None where the store is
            not ours.
        layouts: Layouts in caches.
        datasets: Datasets that were removed.
        outputs: What steps had made of such datasets, and was removed.
    """

    erasure: ErasureRecord
    online: Mapping[str, int] | None
    layouts: RemovedLayouts
    datasets: tuple[RemovedDataset, ...]
    outputs: tuple[RemovedOutput, ...] = ()


@dataclass(frozen=True)
class SourceRows:
    """What of an erased entity a source still holds.

    Attributes:
        source: Its name.
        rows: How many rows from before the erasure; None where it cannot be read.
        failure: Why not.
        parts: The parts that hold them, e.g. files.
    """

    source: str
    rows: int | None
    failure: str | None = None
    parts: tuple[str, ...] = field(default=())


def erase(places: Places, key: Mapping[str, KeyValue], *, now_us: int) -> Erased:
    """Erase an entity.

    Args:
        places: Where its rows may be kept.
        key: Its key columns with their values, typed as the views' keys are. The entity need not be known.
        now_us: Up to when events are erased, by the project's clock: microseconds since epoch, UTC.

    Returns:
        What was taken away where. Erasing again takes away what has come since.

    Raises:
        MetadataError: The erasure cannot be recorded; nothing was done then.
        StoreError: The online store cannot be written. The erasure is recorded and holds, and whatever else could be
            taken away is gone, as with the errors below; erase again.
        EngineError: A cache cannot be written to.
        ArtifactError: A dataset or a step's output is damaged or cannot be removed.
    """
    columns = tuple(sorted(key))
    values = tuple(key[column] for column in columns)
    record = places.metadata.record_erasure(columns, encode_key(values), now_us)
    erased = Erasures.of([Erasure(columns, values, now_us)])
    online: Mapping[str, int] | None = None
    layouts, failures = RemovedLayouts(), list[MlcoreError]()
    if places.backend is not None:
        with _kept_for_later(failures):
            online = bury(places.backend, places.tables, erased)
    with _kept_for_later(failures):
        layouts = _remove_layouts(places.caches, columns)
    datasets = tuple(_remove_datasets(places, record, erased, failures))
    outputs: tuple[RemovedOutput, ...] = ()
    with _kept_for_later(failures):
        outputs = _remove_made_of_datasets(places, record, erased)
    if failures:
        raise failures[0]
    return Erased(record, online, layouts, datasets, outputs)


@contextmanager
def _kept_for_later(failures: list[MlcoreError]) -> Iterator[None]:
    """One place that cannot be cleaned must not keep the entity in the others: its error is raised when all is done."""
    try:
        yield
    except MlcoreError as error:
        failures.append(error)


def rows_left(
    views: Iterable[FeatureView], key: Mapping[str, KeyValue], until: int, *, base: str
) -> Iterator[SourceRows]:
    """Say which sources still hold rows of an erased entity; only keys and times are read.

    Args:
        views: The project's.
        key: The entity's key columns with their values.
        until: Up to when its events are erased, microseconds since epoch, UTC.
        base: Folder of the feature repository.

    Yields:
        The sources that hold some or cannot be read.
    """
    columns = tuple(sorted(key))
    erased = Erasures.of([Erasure(columns, tuple(key[column] for column in columns), until)])
    seen: set[str] = set()
    for view in views:
        if not erased.within(view.keys) or view.source.name in seen:
            continue
        seen.add(view.source.name)
        try:
            found = dict(_counted(open_source(view.source, base), columns, erased))
        except MlcoreError as error:
            yield SourceRows(view.source.name, None, str(error))
            continue
        if found:
            yield SourceRows(view.source.name, sum(found.values()), parts=tuple(found))


def check_dataset(
    dataset: DatasetRecord, since: Erasures, metadata: MetadataStore, artifacts: ArtifactStore
) -> None:
    """Refuse a dataset that holds rows of an entity that was erased while it was built, and remove it.

    It is called once the dataset is recorded: whoever erases later finds it there.

    Args:
        dataset: Its record.
        since: The erasures that have come since its sources were read.
        metadata: The project's record of datasets.
        artifacts: Where its rows are.

    Raises:
        SourceError: It held some.
        ArtifactError: It is damaged or cannot be removed.
    """
    if not _held(dataset, artifacts, since):
        return
    _remove(dataset, "it held rows of an entity that was erased while it was built", metadata, artifacts)
    raise SourceError(
        "an entity was erased while the dataset was built, and had rows in it",
        object=f'dataset of "{dataset.name}"',
        hint="Build it again.",
    )


def _counted(listing: SourceListing, columns: Sequence[str], erased: Erasures) -> Iterator[tuple[str, int]]:
    wanted = tuple(dict.fromkeys([*columns, listing.source.event_time]))
    for part in listing.found:
        rows = part.read(wanted)
        count = rows.num_rows - without_erased(rows, listing.source, erased).num_rows
        if count:
            yield part.name, count


def _remove_layouts(caches: Sequence[Cache], columns: Sequence[str]) -> RemovedLayouts:
    """Remove the layouts sorted by keys that hold the erased one, and all matrices: they are made anew, without it."""

    def held(entry: CacheEntry) -> bool:
        # What cannot be read any more may hold anything, and the rows of a matrix have lost their keys.
        if not entry.facts or entry.facts.get("kind") == "matrix":
            return True
        return set(columns) <= set(entry.facts.get("keys", ()))

    found = [entry for cache in caches for entry in cache.remove(held)]
    gone = [entry for entry in found if not entry.in_use]
    return RemovedLayouts(len(gone), sum(entry.bytes for entry in gone), len(found) - len(gone))


def _remove_datasets(
    places: Places, record: ErasureRecord, erased: Erasures, failures: list[MlcoreError]
) -> Iterator[RemovedDataset]:
    """Remove the datasets that hold rows of the key: without them they would be other datasets."""
    metadata, artifacts = places.metadata, places.artifacts
    held: list[tuple[DatasetRecord, int]] = []
    for one in metadata.list_datasets(limit=_ALL):
        with _kept_for_later(failures):
            if one.removed_us is None and (count := _held(one, artifacts, erased)):
                held.append((one, count))
    runs: dict[int | None, list[str]] = {}
    for run in metadata.list_runs(limit=_ALL) if held else ():
        runs.setdefault(run.dataset_id, []).append(run.id)
    why = f"it held rows of an erased entity ({', '.join(record.columns)}), erasure {record.id}"
    for one, count in held:
        with _kept_for_later(failures):
            _remove(one, why, metadata, artifacts)
            yield RemovedDataset(one.id, one.name, one.content_hash, count, tuple(runs.get(one.id, ())))


def _remove_made_of_datasets(
    places: Places, record: ErasureRecord, erased: Erasures
) -> tuple[RemovedOutput, ...]:
    """Remove what steps made of datasets that are gone, now or before: whether they held the key cannot be seen any more.

    That also completes an erasure that was cut off here. An output that is written down only later finds its input gone.
    """
    metadata, artifacts = places.metadata, places.artifacts
    gone = {
        one.artifact_digest
        for one in metadata.list_datasets(limit=_ALL)
        if one.artifact_digest is not None
        and erased.within(one.schema)
        and (one.removed_us is not None or not artifacts.exists(one.artifact_digest))
    }
    if not gone:
        return ()
    removed = remove_outputs(made_of(metadata.list_outputs(), gone), metadata, artifacts)
    if removed:
        facts = [{"step": one.step, "digest": one.digest} for one in removed]
        metadata.record_audit("outputs.remove", f"erasure:{record.id}", {"outputs": facts})
    return removed


def _remove(dataset: DatasetRecord, why: str, metadata: MetadataStore, artifacts: ArtifactStore) -> None:
    if dataset.artifact_digest is not None:
        artifacts.delete_tree(dataset.artifact_digest)
    metadata.remove_dataset(dataset.id, why)


def _held(dataset: DatasetRecord, artifacts: ArtifactStore, erased: Erasures) -> int:
    """How many rows of a dataset are erased entities'; 0 too where the artifact store no longer has it."""
    digest, here = dataset.artifact_digest, erased.within(dataset.schema)
    if digest is None or not here or not artifacts.exists(digest):
        return 0
    columns = sorted({column for one in here.entries for column in one.columns})
    count = 0
    for file in artifacts.files_of(digest):
        if file.path.endswith(".parquet"):
            with artifacts.open(file.digest) as stream:
                keys: pa.Table = pq.read_table(stream, columns=columns)
            count += int(np.count_nonzero(erased_until(keys, here) != EARLIEST))
    return count
