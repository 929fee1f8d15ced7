"""How far features are now from what a model was trained on: rows of either side, read or retrieved, and compared.

It imports the project's code and reads rows, so a scheduler has it done in a process of its own. Which rows those are
is written in ``spec.Drifted``; what follows from it is decided in ``workflow.schedule.drifting``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mlflow_core.config.times import format_duration, format_time
from mlflow_core.engine.dataset.newest import newest_observations
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.metadata import DatasetRecord
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import ClockName
from mlflow_core.train.evaluation.sampling import read_sample
from mlflow_core.train.evaluation.stability import distances
from mlflow_core.workflow.data_difference import stored_dataset
from mlflow_core.workflow.dataset import plan_of
from mlflow_core.workflow.schedule.drifting import Reference, reference_of
from mlflow_core.workflow.workspace import Workspace

__all__ = ["LEAST_ROWS", "MOST_ROWS", "measure_drift"]

LEAST_ROWS: Final = 200
"""Fewer rows on either side say nothing."""

MOST_ROWS: Final = 20_000
"""More rows of either side are sampled down to as many."""

_SEED = 0


def measure_drift(workspace: Workspace, told: Mapping[str, Any], *, now_us: int) -> dict[str, Any]:
    """Measure how far a pipeline's features are from what its model was trained on.

    Args:
        workspace: The project.
        told: The condition, as ``drifting.declared_drift`` wrote it.
        now_us: Observations later than this are not looked at; microseconds since epoch, UTC.

    Returns:
        JSON: ``distances``, pairs of a feature and its distance, the farthest first; ``rows`` before and now;
        ``newest_us``; or ``problem``, one sentence on why nothing can be said.

    Raises:
        UnknownNameError: There is no such pipeline.
        SourceError: A source cannot be read.
        ArtifactError: The training set is damaged.
    """
    reference = reference_of(workspace.metadata, str(told["of"]))
    if isinstance(reference, str):
        return {"problem": reference}
    data, record = workspace.pipeline(str(told["of"])).data, reference.dataset
    if record.spec_fingerprint != fingerprint(data.features):
        return {"problem": f"the features are declared otherwise than for run {reference.run}"}
    if not workspace.artifacts.exists(str(record.artifact_digest)):
        return {"problem": f"the rows that run {reference.run} was trained on are not there any more"}
    plan = plan_of(data, workspace.base, clock=_clock(record), erasures=workspace.erasures)
    over_us = int(told["over_us"])
    newest = newest_observations(plan, workspace.base, over_us, now_us=now_us, most=MOST_ROWS, seed=_SEED)
    measured = {"rows": [int(record.rows["train"]), newest.rows], "newest_us": newest.newest_us}
    if problem := _too_few(reference, newest.rows, newest.newest_us, over_us):
        return {**measured, "problem": problem}
    stored = stored_dataset(record, workspace.artifacts)
    features = [
        name for name in stored.manifest["features"] if not told["features"] or name in told["features"]
    ]
    before = read_sample(stored.data, "train", MOST_ROWS, features)
    now = retrieve(plan.retrieval, newest.table, base=workspace.base)
    found = distances(before, now, features)
    if not found:
        return {**measured, "problem": "no feature is a single number, boolean or text that can be compared"}
    return {**measured, "distances": [[name, far] for name, far in found.items()]}


def _too_few(reference: Reference, rows: int, newest_us: int | None, over_us: int) -> str | None:
    before = int(reference.dataset.rows["train"])
    if before < LEAST_ROWS:
        return (
            f"run {reference.run} was trained on {before} rows, and {LEAST_ROWS} are needed to compare with"
        )
    if rows >= LEAST_ROWS:
        return None
    until = "" if newest_us is None else f" until {format_time(newest_us)}"
    return (
        f"there are {rows} rows of {format_duration(over_us)}{until}, and {LEAST_ROWS} are needed to compare"
    )


def _clock(record: DatasetRecord) -> ClockName:
    """The clock that the training set was built under."""
    clocks: tuple[ClockName, ...] = ("event", "known", "served")
    return next(one for one in clocks if one == record.clock)
