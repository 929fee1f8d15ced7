"""Compute a training set: its entity rows, their label, their part, and their features, as Parquet shards.

It walks a ``DatasetPlan``. Features come from ``engine.retrieve``, in one retrieval for all parts, so that no
view is read more than once. The naive truth of labels and parts is ``tests/oracle/labels.py``. Nothing written
here depends on when or where it ran: the same recipe over the same sources gives the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlflow_core.algebra.expression import evaluate, holds
from mlflow_core.algebra.on_demand import infer_outputs
from mlflow_core.algebra.types import TIME
from mlflow_core.config.times import format_time
from mlflow_core.engine.dataset_checks import CheckResult, run_checks
from mlflow_core.engine.retrieve import retrieve_to_shards
from mlflow_core.engine.route import InProcess, Route
from mlflow_core.engine.split import Assignment, assign_parts
from mlflow_core.engine.view import compute_view
from mlflow_core.errors import SourceError, TrainError
from mlflow_core.plan.dataset import KNOWN, PARTS, TIME_COLUMN, DatasetPlan
from mlflow_core.sources import read_table, snapshot
from mlflow_core.spec import Source
from mlflow_core.telemetry.progress import Progress, SilentProgress

__all__ = ["MANIFEST", "ComputedDataset", "EntityRows", "compute_dataset", "entity_rows", "final_versions"]

MANIFEST = "dataset.json"
_ROWS_PER_SHARD = 131_072

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EntityRows:
    """The rows of a training set before their features.

    Attributes:
        table: Query time, kept columns and label, all parts after one another; within a part in source order.
        rows: Rows by part.
        left_out: Rows left out, by reason.
    """

    table: pa.Table
    rows: Mapping[str, int]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ComputedDataset:
    """A training set on disk.

    Attributes:
        folder: Holds ``dataset.json`` and one folder of shards for each part.
        shards: Files by part, in row order.
        features: Feature columns, in order.
        request: Those of them that come from the request alone.
        manifest: What ``dataset.json`` says.
        checks: What the views' checks found in the training part.
    """

    folder: Path
    shards: Mapping[str, tuple[Path, ...]]
    features: tuple[str, ...]
    request: tuple[str, ...]
    manifest: Mapping[str, Any]
    checks: tuple[CheckResult, ...]


def compute_dataset(
    plan: DatasetPlan,
    *,
    base: str,
    out: Path,
    fingerprints: Mapping[str, str],
    route: Route | None = None,
    progress: Progress | None = None,
) -> ComputedDataset:
    """Compute a training set into a folder.

    Args:
        plan: What to compute.
        base: Folder that relative source paths start at.
        out: An empty or absent folder.
        fingerprints: Fingerprints of the specs it is made of, by name; kept in the manifest.
        route: Where the features are computed; by default in this process.
        progress: Who is told.

    Returns:
        The dataset. Failed checks are in it; whether they stop a run is the caller's decision.

    Raises:
        SourceError: The spine's source has no event that makes a row.
        TrainError: No row, or not one positive, is left for training.
    """
    route, progress = route or InProcess(), progress or SilentProgress()
    with progress.stage("entity rows and labels", unit="rows") as stage:
        spine = entity_rows(plan, base)
        stage.advance(spine.table.num_rows)
    _trainable(plan, spine)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as draft:
        written = retrieve_to_shards(
            plan.retrieval,
            spine.table,
            base=base,
            out=Path(draft),
            route=route,
            rows_per_shard=_ROWS_PER_SHARD,
            progress=progress,
        )
        shards = _cut_by_part(written, spine.rows, out)
    schema = pq.read_schema(next(files[0] for files in shards.values() if files))
    own = {TIME_COLUMN, plan.label.name, *plan.carried}
    features = tuple(name for name in schema.names if name not in own)
    checks = run_checks(plan.retrieval, shards["train"])
    request = tuple(name for name in _request_features(plan) if name in features)
    manifest = _manifest(plan, spine, schema, features, request, shards, checks)
    manifest |= {
        "fingerprints": dict(sorted(fingerprints.items())),
        "sources": {source.name: snapshot(source, base) for source in _sources(plan)},
        "route": type(route).__name__,
    }
    text = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    (out / MANIFEST).write_bytes(text)
    return ComputedDataset(out, shards, features, request, orjson.loads(text), checks)


def entity_rows(plan: DatasetPlan, base: str) -> EntityRows:
    """Make the rows of a training set: query time, kept columns and label, by part.

    Where the source has an ``event_id``, the final version of an event makes its row and the earlier ones none:
    there is one row for each thing that happened, however often it was corrected.

    Args:
        plan: What to compute.
        base: Folder that relative source paths start at.

    Raises:
        SourceError: The source has no event that makes a row.
    """
    spine = plan.dataset.spine
    events = final_versions(read_table(spine.source, base, plan.columns), spine.source)
    title = f"spine of {plan.dataset.features.title}"
    if spine.where is not None:
        events = events.filter(holds(events, spine.where, title=f"{title}: where"))
    if events.num_rows == 0:
        raise SourceError(
            "has no event that makes a row of the dataset",
            object=spine.source.title,
            place=spine.source.place,
        )
    expressions = {"mlcore_at": spine.at or f'"{spine.source.event_time}"'}
    if plan.label.expression is not None:
        expressions["mlcore_label"] = plan.label.expression
    computed = evaluate(events, expressions, title=title)
    at = computed["mlcore_at"].cast(TIME)
    kept = pa.table([at, *(events[name] for name in plan.carried)], names=[TIME_COLUMN, *plan.carried])
    has_time = pc.is_valid(at)
    if not pc.all(has_time).as_py():
        raise SourceError(
            f"{at.null_count} events have no query time: {expressions['mlcore_at']} is null",
            object=spine.source.title,
            place=spine.place,
            hint="Leave them out with Spine(where=...).",
        )
    label, known, end = _labels(plan, base, events, kept, computed)
    parts = assign_parts(_ints(at), known, _numpy(pc.is_valid(label)), plan.cuts, horizon_end=end)
    return _ordered(kept.append_column(plan.label.name, label), parts)


def final_versions(events: pa.Table, source: Source) -> pa.Table:
    """Keep the last version of each event, without deleted ones; rows stay in source order.

    Args:
        events: All versions, in source order.
        source: Says which columns are identity, order of versions and deletion.

    Returns:
        The events; unchanged for a source without ``event_id``. A row without an identity is an event of its own.
    """
    if source.event_id is None:
        return events
    event_time = _ints(events[source.event_time].cast(TIME))
    known = _or(events, source.known_at, event_time)
    created = _or(events, source.created, np.maximum(known, event_time))
    identity = pc.dictionary_encode(events[source.event_id].combine_chunks())
    codes = identity.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    # A row without an identity gets one that no other row has.
    codes = np.where(codes < 0, len(identity.dictionary) + np.arange(len(codes)), codes)
    order = np.lexsort((np.arange(len(codes)), created, codes))
    last = np.append(np.diff(codes[order]) != 0, True) if len(order) else np.zeros(0, np.bool_)
    kept = events.take(pa.array(np.sort(order[last])))
    if source.deleted is not None:
        kept = kept.filter(pc.invert(pc.fill_null(kept[source.deleted], False)))
    return kept


def _labels(
    plan: DatasetPlan, base: str, events: pa.Table, kept: pa.Table, computed: pa.Table
) -> tuple[pa.ChunkedArray, Ints, int | None]:
    """Return each row's label, when it was known, and the last moment that the label's source tells of."""
    if plan.label.read is None:
        source = plan.label.source
        known = _ints(computed[source.event_time].cast(TIME))
        if plan.label.known_at is not None:
            known = np.maximum(known, _or(events, plan.label.known_at, known))
        return computed["mlcore_label"], known, None
    return _aggregated(plan, base, kept)


def _aggregated(plan: DatasetPlan, base: str, kept: pa.Table) -> tuple[pa.ChunkedArray, Ints, int | None]:
    label = plan.label
    assert label.read is not None
    future = final_versions(read_table(label.source, base), label.source)
    t = _ints(kept[TIME_COLUMN])
    ends = pa.array(t + label.horizon, TIME)
    queries = kept.select(list(label.read.view.keys)).append_column(TIME_COLUMN, ends)
    found = compute_view(future, queries, label.read)
    last_known = found[KNOWN].cast(TIME)
    known = np.where(_numpy(pc.is_valid(last_known)), _ints(last_known), t + label.horizon)
    event_time = _ints(future[label.source.event_time].cast(TIME))
    known_at = np.maximum(_or(future, label.source.known_at, event_time), event_time)
    end = int(known_at.max()) if len(known_at) else None
    return found[label.name], known, end


def _ordered(table: pa.Table, parts: Assignment) -> EntityRows:
    rows = parts.rows()
    order = np.concatenate([np.flatnonzero(parts.part == i) for i in range(len(PARTS))])
    return EntityRows(table.take(pa.array(order)), rows, parts.left_out())


def _trainable(plan: DatasetPlan, spine: EntityRows) -> None:
    place = plan.dataset.place or plan.dataset.spine.place
    if not spine.rows["train"]:
        left = ", ".join(f"{count} {reason}" for reason, count in spine.left_out.items() if count) or "none"
        raise TrainError(
            f"no row is left for training before {format_time(plan.cuts.train_until)}",
            object=f"Dataset of {plan.dataset.features.title}",
            place=place,
            hint=f"Rows left out: {left}. Rows by part: {dict(spine.rows)}.",
        )
    label = spine.table[plan.label.name].slice(0, spine.rows["train"])
    if pa.types.is_boolean(label.type) and not pc.any(label).as_py():
        raise TrainError(
            f'label "{plan.label.name}" is true in none of the {len(label)} training rows',
            object=f"Dataset of {plan.dataset.features.title}",
            place=place,
            expected="at least one positive row",
        )


def _cut_by_part(
    written: tuple[Path, ...], rows: Mapping[str, int], out: Path
) -> dict[str, tuple[Path, ...]]:
    """Sort shards into parts; only a shard that holds a boundary between two parts is written again."""
    shards: dict[str, list[Path]] = {part: [] for part in PARTS}
    ends = np.cumsum([rows[part] for part in PARTS])
    start = 0
    for path in written:
        stop = start + pq.read_metadata(path).num_rows
        for part, last in zip(PARTS, ends, strict=True):
            first = int(last) - rows[part]
            low, high = max(start, first), min(stop, int(last))
            if low >= high:
                continue
            target = out / part / f"part-{len(shards[part]):05d}.parquet"
            target.parent.mkdir(exist_ok=True)
            if (low, high) == (start, stop):
                path.rename(target)
            else:
                pq.write_table(pq.read_table(path).slice(low - start, high - low), target)
            shards[part].append(target)
        start = stop
    return {part: tuple(files) for part, files in shards.items()}


def _request_features(plan: DatasetPlan) -> tuple[str, ...]:
    """Name the features of on-demand functions that read nothing but the request."""
    found: list[str] = []
    for one in plan.retrieval.on_demand:
        if not one.on_demand.inputs:
            found += one.features or list(infer_outputs(one.on_demand, {}))
    return tuple(found)


def _manifest(
    plan: DatasetPlan,
    spine: EntityRows,
    schema: pa.Schema,
    features: tuple[str, ...],
    request: tuple[str, ...],
    shards: Mapping[str, tuple[Path, ...]],
    checks: tuple[CheckResult, ...],
) -> dict[str, Any]:
    return {
        "version": 1,
        "service": plan.dataset.features.name,
        "clock": plan.clock,
        "time_column": TIME_COLUMN,
        "label": {
            "column": plan.label.name,
            "meaning": plan.label.describe(),
            "horizon_us": plan.label.horizon,
        },
        "features": list(features),
        "request": list(request),
        "schema": {field.name: str(field.type) for field in schema},
        "rows": dict(spine.rows),
        "left_out": dict(spine.left_out),
        "parts": _parts(plan, spine),
        "split": {name: value for name, value in asdict(plan.cuts).items() if value is not None},
        "shards": {part: [f"{part}/{path.name}" for path in files] for part, files in shards.items()},
        "checks": [asdict(check) for check in checks],
    }


def _parts(plan: DatasetPlan, spine: EntityRows) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {}
    start = 0
    for part in PARTS:
        table = spine.table.slice(start, spine.rows[part])
        start += spine.rows[part]
        if not table.num_rows:
            continue
        label, times = table[plan.label.name], pc.min_max(table[TIME_COLUMN].cast(pa.int64()))
        told[part] = {"from": format_time(times["min"].as_py()), "to": format_time(times["max"].as_py())}
        if (
            pa.types.is_boolean(label.type)
            or pa.types.is_integer(label.type)
            or pa.types.is_floating(label.type)
        ):
            told[part]["label_mean"] = pc.mean(label.cast(pa.float64())).as_py()
    return told


def _sources(plan: DatasetPlan) -> tuple[Source, ...]:
    sources = [
        plan.dataset.spine.source,
        plan.label.source,
        *(read.view.source for read in plan.retrieval.reads),
    ]
    return tuple({source.name: source for source in sources}.values())


def _or(table: pa.Table, column: str | None, otherwise: Ints) -> Ints:
    """Return a time column in microseconds, with its nulls, or all of it if there is none, taken from another."""
    if column is None:
        return otherwise
    times = table[column].cast(TIME)
    return np.where(_numpy(pc.is_valid(times)), _ints(times), otherwise)


def _ints(times: pa.ChunkedArray) -> Ints:
    values: Ints = pc.fill_null(times.cast(pa.int64()), 0).to_numpy()
    return values


def _numpy(flags: pa.ChunkedArray) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = flags.to_numpy()
    return values
