"""Compute a training set: entity rows with labels, their features, and their parts, as Parquet shards.

It walks a ``DatasetPlan``. Rows and labels come from ``engine.spine``; features from ``engine.retrieve``, in one
retrieval for all parts, so that no view is read more than once. Nothing written here depends on when or where
it ran: the same recipe over the same sources gives the same bytes.
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

from mlflow_core.algebra.on_demand import infer_outputs
from mlflow_core.config.times import format_time
from mlflow_core.engine.dataset.checks import CheckResult, run_checks
from mlflow_core.engine.dataset.manifest import MANIFEST
from mlflow_core.engine.dataset.spine import EntityRows, entity_rows
from mlflow_core.engine.retrieve import retrieve_to_shards
from mlflow_core.engine.route import InProcess, Route
from mlflow_core.errors import SourceError, TrainError
from mlflow_core.plan.dataset import PARTS, TIME_COLUMN, DatasetPlan
from mlflow_core.sources import snapshot
from mlflow_core.spec import Source
from mlflow_core.telemetry.progress import Progress, SilentProgress

__all__ = ["ComputedDataset", "compute_dataset", "sources_of"]

_ROWS_PER_SHARD = 131_072


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
        sources: Fingerprint of each source as it was read. It is not in the manifest: a file copied elsewhere, or
            written again with the same rows, makes the same dataset.
    """

    folder: Path
    shards: Mapping[str, tuple[Path, ...]]
    features: tuple[str, ...]
    request: tuple[str, ...]
    manifest: Mapping[str, Any]
    checks: tuple[CheckResult, ...]
    sources: Mapping[str, str]


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
        SourceError: The spine's source has no event that makes a row, or a source changed while it was read.
        TrainError: No row, or not one positive, is left for training.
    """
    route, progress = route or InProcess(), progress or SilentProgress()
    before = _snapshots(plan, base)
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
    manifest["fingerprints"] = dict(sorted(fingerprints.items()))
    text = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    (out / MANIFEST).write_bytes(text)
    _unchanged(plan, before, _snapshots(plan, base))
    return ComputedDataset(out, shards, features, request, orjson.loads(text), checks, before)


def _snapshots(plan: DatasetPlan, base: str) -> dict[str, str]:
    """Fingerprint what each source of a training set holds now, by the source's name."""
    return {name: snapshot(source, base) for name, source in sources_of(plan).items()}


def sources_of(plan: DatasetPlan) -> dict[str, Source]:
    """Return the sources that a training set is read from, by name."""
    views = (read.view.source for read in plan.retrieval.reads)
    return {one.name: one for one in (plan.dataset.spine.source, plan.label.source, *views)}


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
        told[part] = {
            "from": format_time(times["min"].as_py()),
            "to": format_time(times["max"].as_py()),
            "left_out": {reason: count for reason, count in spine.left_out_of[part].items() if count},
        }
        if (
            pa.types.is_boolean(label.type)
            or pa.types.is_integer(label.type)
            or pa.types.is_floating(label.type)
        ):
            told[part]["label_mean"] = pc.mean(label.cast(pa.float64())).as_py()
    return told


def _unchanged(plan: DatasetPlan, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Refuse a dataset whose labels and features may come from different states of a source."""
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        raise SourceError(
            f"source {', '.join(changed)} changed while the dataset was built",
            object=f"Dataset of {plan.dataset.features.title}",
            place=plan.dataset.place,
            hint="Build it again when nothing writes there.",
        )
