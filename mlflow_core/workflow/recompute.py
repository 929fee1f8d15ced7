"""What a change makes necessary to compute again: values of views online, training sets, models; how much, how long.

Rows and bytes are told from the sources' statistics, seconds from what earlier runs took; where no run was measured
the seconds are unknown. Nothing is computed for it and no row is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from mlflow_core.engine.dataset.estimate import explain_dataset
from mlflow_core.engine.estimate import extent_of
from mlflow_core.errors import MlcoreError
from mlflow_core.metadata import MetadataStore, RunState, Step
from mlflow_core.plan.lineage import Node, columns_of
from mlflow_core.plan.project import Project
from mlflow_core.sources import SourceListing, open_source
from mlflow_core.spec import FeatureView, TrainingPipeline
from mlflow_core.workflow.dataset import plan_of

__all__ = ["Recompute", "recomputed"]

Kind = Literal["view", "dataset", "training"]

_RUNS_LOOKED_AT = 20
_TRAINING_STEPS = ("search", "train")


@dataclass(frozen=True, slots=True)
class Recompute:
    """Something that was computed once and will have to be again.

    Attributes:
        kind: A view's values in the online store, a pipeline's training set, or its model.
        name: The view or pipeline.
        rows: Events of the source or, of a training set, at most how many entity rows; None where nobody can tell.
        bytes: What is read, in memory; None where nobody can tell.
        seconds: How long, by what earlier runs took; None where none was measured.
        why: Where the figures are from, or why there are none.
    """

    kind: Kind
    name: str
    rows: int | None
    bytes: int | None
    seconds: float | None
    why: str


def recomputed(project: Project, reached: Iterable[Node], metadata: MetadataStore) -> tuple[Recompute, ...]:
    """Say what will have to be computed again after a change.

    Args:
        project: The project as it is declared now.
        reached: Declarations whose values change; from ``plan.impact.reached``.
        metadata: What was computed earlier, and how long that took.

    Returns:
        Views that are online, then training sets that were built with their models, by name.

    Raises:
        MetadataError: The database cannot be read.
    """
    nodes = tuple(reached)
    views = [project.views[one.name] for one in nodes if one.kind == "views" and one.name in project.views]
    names = [one.name for one in nodes if one.kind == "pipelines" and one.name in project.pipelines]
    found: list[Recompute] = []
    for view in views:
        if metadata.last_boundary(view.name) is not None:
            found.append(_of_view(view, project, metadata))
    for name in names:
        pipeline = project.pipelines[name]
        if isinstance(pipeline, TrainingPipeline):
            found += _of_pipeline(pipeline, project, metadata)
    return tuple(found)


def _of_view(view: FeatureView, project: Project, metadata: MetadataStore) -> Recompute:
    try:
        listing = open_source(view.source, str(project.repo))
    except MlcoreError as error:
        return Recompute("view", view.name, None, None, None, f"its source cannot be read: {error}")
    extent = extent_of(listing.schema, _needed(view, listing), listing.found)
    rate = _events_per_second(view, listing, metadata)
    seconds = None if rate is None else extent.rows / rate
    why = "no earlier run was measured" if rate is None else f"{rate:,.0f} events a second in its fullest run"
    return Recompute("view", view.name, extent.rows, extent.bytes, seconds, why)


def _needed(view: FeatureView, listing: SourceListing) -> list[str]:
    """The source's columns that a view reads; expressions may spell them in another case."""
    own = view.source
    times = [name for name in (own.event_time, own.known_at, own.created, own.event_id) if name]
    read = {name.casefold() for used in columns_of(view).values() for name in used}
    wanted = {*read, *(name.casefold() for name in (*view.keys, *times))}
    return [name for name in listing.schema.names if name.casefold() in wanted]


def _events_per_second(view: FeatureView, listing: SourceListing, metadata: MetadataStore) -> float | None:
    """How fast the run was that wrote the most: runs after it write only what can have changed."""
    runs = metadata.list_materialisations(view.name, limit=1000)
    measured = [run for run in runs if run.ended_us > run.started_us]
    if not measured:
        return None
    fullest = max(measured, key=lambda run: (run.rows, run.id))
    parts = [left for part in listing.found if (left := part.within((None, fullest.boundary_us))) is not None]
    events = sum(part.rows for part in parts)
    return events / ((fullest.ended_us - fullest.started_us) / 1e6) if events else None


def _of_pipeline(
    pipeline: TrainingPipeline, project: Project, metadata: MetadataStore
) -> Iterator[Recompute]:
    if not metadata.list_datasets(pipeline.name, limit=1):
        return
    base = str(project.repo)
    rate = _rows_per_second(pipeline.name, metadata)
    why = "no earlier run was measured" if rate is None else f"{rate:,.0f} rows a second in its last run"
    try:
        plan = plan_of(pipeline.data, base, carry=pipeline.carried)
        found = explain_dataset(plan, base=base, cluster=False).estimate
    except MlcoreError as error:
        yield Recompute("dataset", pipeline.name, None, None, None, f"cannot be planned: {error}")
    else:
        rows = found.rows.rows
        seconds = None if rate is None else rows / rate
        yield Recompute("dataset", pipeline.name, rows, found.read_bytes, seconds, why)
    if metadata.list_runs(pipeline=pipeline.name, limit=1):
        took = _seconds_of_training(pipeline.name, metadata)
        told = "no earlier run was measured" if took is None else "as long as in its last run"
        yield Recompute("training", pipeline.name, None, None, took, told)


def _rows_per_second(pipeline: str, metadata: MetadataStore) -> float | None:
    """How many rows of its training set a pipeline's last run built in a second."""
    for run in metadata.list_runs(pipeline=pipeline, limit=_RUNS_LOOKED_AT):
        if run.dataset_id is None:
            continue
        rows = sum(int(count) for count in metadata.get_dataset(run.dataset_id).rows.values())
        seconds = _seconds(metadata.list_steps(run.id), ("dataset",))
        if rows and seconds:
            return rows / seconds
    return None


def _seconds_of_training(pipeline: str, metadata: MetadataStore) -> float | None:
    for run in metadata.list_runs(pipeline=pipeline, limit=_RUNS_LOOKED_AT):
        if seconds := _seconds(metadata.list_steps(run.id), _TRAINING_STEPS):
            return seconds
    return None


def _seconds(steps: Iterable[Step], names: tuple[str, ...]) -> float:
    """How long steps took that really ran: a result that was found again says nothing."""
    return sum(
        (step.ended_us - step.started_us) / 1e6
        for step in steps
        if step.name in names
        and step.state == RunState.SUCCEEDED
        and not step.cache_hit
        and step.ended_us is not None
    )
