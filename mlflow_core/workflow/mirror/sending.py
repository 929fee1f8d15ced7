"""Sending a run to MLflow, in MLflow's process: found by its tag or made, filled with what it lacks, marked as whole last.

Whoever is killed half-way leaves a copy without its mark, which the next one goes on with: nothing is made twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlflow_core.workflow.mirror.tags import DIGEST_TAG, RUN_TAG, WHOLE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["send_run"]

_AT_ONCE: Final = 100
_METRICS_AT_ONCE: Final = 1_000
_FEW: Final = 50
_T = TypeVar("_T")


def send_run(client: MlflowClient, parcel: Mapping[str, Any]) -> dict[str, Any]:
    """Copy one run, or what its copy lacks.

    Args:
        client: Of the server.
        parcel: As ``pack`` made it.

    Returns:
        ``run``: MLflow's id; ``made``: whether anything was written; ``version``: of the registered model, or None;
        ``note``: what a person should know, or None.

    Raises:
        MlflowException: The server refused something.
    """
    experiment = _experiment(client, parcel["experiment"])
    copies = _copies(client, experiment, parcel["run"])
    active = [one for one in copies if one.info.lifecycle_stage == "active"]
    note = None
    if len(active) > 1:
        note = f"MLflow has {len(active)} copies of it; {active[0].info.run_id} is used"
    if copies and not active:
        gone = copies[0].info.run_id
        return _told(gone, made=False, note=f"its copy {gone} was deleted in MLflow, and is left so")
    if active and active[0].data.tags.get(WHOLE_TAG) == parcel["mark"]:
        return _told(active[0].info.run_id, made=False, note=note)
    run = active[0] if active else _made(client, experiment, parcel)
    _fill(client, run, parcel)
    version = None if parcel["model"] is None else _register(client, run, parcel["model"])
    client.set_terminated(run.info.run_id, parcel["status"], parcel["end_ms"])
    client.set_tag(run.info.run_id, WHOLE_TAG, parcel["mark"])
    return _told(run.info.run_id, made=True, version=version, note=note)


def _told(run: str, *, made: bool, version: str | None = None, note: str | None = None) -> dict[str, Any]:
    return {"run": run, "made": made, "version": version, "note": note}


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            # Another run's copy has just made it.
            found = client.get_experiment_by_name(name)
            if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    if found.lifecycle_stage != "active":
        raise MlflowException(
            f'the experiment "{name}" is deleted; restore it in MLflow, or name another one'
        )
    return str(found.experiment_id)


def _copies(client: MlflowClient, experiment: str, run_id: str) -> list[Run]:
    from mlflow.entities import ViewType

    asked = f"tags.`{RUN_TAG}` = '{run_id}'"
    found = client.search_runs([experiment], asked, run_view_type=ViewType.ALL, max_results=_FEW)
    return sorted(found, key=lambda one: (WHOLE_TAG not in one.data.tags, one.info.run_id))


def _made(client: MlflowClient, experiment: str, parcel: Mapping[str, Any]) -> Run:
    tags = {RUN_TAG: parcel["run"]}
    return client.create_run(experiment, parcel["start_ms"], tags, run_name=parcel["run"])


def _fill(client: MlflowClient, run: Run, parcel: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    run_id = run.info.run_id
    there = _there(client, run)
    lacking = [one for one in parcel["metrics"] if _bits(one) not in there]
    for some in _parts(list(parcel["tags"].items()), _AT_ONCE):
        client.log_batch(run_id, tags=[RunTag(*one) for one in some])
    for some in _parts(parcel["params"], _AT_ONCE):
        client.log_batch(run_id, params=[Param(*one) for one in some])
    for some in _parts(lacking, _METRICS_AT_ONCE):
        metrics = [Metric(name, value, at_ms, step) for name, value, step, at_ms in some]
        client.log_batch(run_id, metrics=metrics)
    client.log_artifacts(run_id, parcel["folder"])


def _there(client: MlflowClient, run: Run) -> set[tuple[object, ...]]:
    """The metrics that an earlier attempt has written: not every store knows that it has them already."""
    return {
        _bits((name, one.value, one.step, one.timestamp))
        for name in run.data.metrics
        for one in client.get_metric_history(run.info.run_id, name)
    }


def _bits(metric: Sequence[Any]) -> tuple[object, ...]:
    """Tell metrics apart by the bits of their values: NaN is not equal to itself."""
    name, value, step, at_ms = metric
    return name, struct.pack("<d", value), step, at_ms


def _register(client: MlflowClient, run: Run, model: Mapping[str, Any]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model["name"])
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        if version.name == model["name"] and version.tags.get(DIGEST_TAG) == model["digest"]:
            return str(version.version)
    source = f"{run.info.artifact_uri}/{model['path']}"
    made = client.create_model_version(model["name"], source, run.info.run_id, tags=model["tags"])
    return str(made.version)


def _parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
