"""Reading MLflow's runs, in MLflow's process: which there are, and one of them whole, with every value of its metrics."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

__all__ = ["ended_runs", "read_run"]

_AT_ONCE: Final = 1_000


def ended_runs(client: MlflowClient, experiment: str | None) -> dict[str, Any]:
    """List runs, those that began first before the others.

    Args:
        client: Of the server.
        experiment: Only this one's; all active experiments' if None.

    Returns:
        ``runs``: of each ``run``, ``experiment``, ``status``, ``start_ms`` and ``tags``; deleted ones are not there, but counted as
        ``deleted``. ``experiments``: the names that were looked through.

    Raises:
        MlflowException: There is no such experiment.
    """
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    every = list(_experiments(client))
    chosen = [one for one in every if experiment in (None, one.name)]
    if not chosen and experiment is not None:
        known = ", ".join(sorted(one.name for one in every)) or "none"
        raise MlflowException(f'there is no experiment "{experiment}"; there are: {known}')
    names = {one.experiment_id: one.name for one in chosen}
    found = list(_search(client, list(names), ViewType.ACTIVE_ONLY))
    runs = [
        {
            "run": one.info.run_id,
            "experiment": names[one.info.experiment_id],
            "status": one.info.status,
            "start_ms": one.info.start_time,
            "tags": dict(one.data.tags),
        }
        for one in sorted(found, key=lambda one: (one.info.start_time or 0, one.info.run_id))
    ]
    deleted = sum(1 for _ in _search(client, list(names), ViewType.DELETED_ONLY))
    return {"runs": runs, "deleted": deleted, "experiments": sorted(names.values())}


def read_run(client: MlflowClient, run_id: str, folder: str | None, tracking_uri: str) -> dict[str, Any]:
    """Read one run.

    Args:
        client: Of the server.
        run_id: MLflow's id.
        folder: An empty folder that gets its artifacts; None leaves them.
        tracking_uri: The server's address, for the artifacts.

    Returns:
        ``name``, ``status``, ``end_ms``, ``params`` and ``tags`` as texts, ``metrics`` as name, value, step
        and time of each value, ``models``: how many logged models it has, ``files``: how many artifacts were fetched.
    """
    run = client.get_run(run_id)
    metrics = [
        [name, one.value, one.step, one.timestamp]
        for name in sorted(run.data.metrics)
        for one in client.get_metric_history(run_id, name)
    ]
    outputs = getattr(run, "outputs", None)
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "end_ms": run.info.end_time,
        "params": dict(run.data.params),
        "tags": dict(run.data.tags),
        "metrics": metrics,
        "models": len(outputs.model_outputs) if outputs is not None else 0,
        "files": 0 if folder is None else _fetch(client, run, Path(folder), tracking_uri),
    }


def _experiments(client: MlflowClient) -> Iterator[Experiment]:
    token = None
    while True:
        page = client.search_experiments(max_results=_AT_ONCE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _search(client: MlflowClient, experiments: list[str], view: int) -> Iterator[Run]:
    token = None
    while experiments:
        page = client.search_runs(experiments, run_view_type=view, max_results=_AT_ONCE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _fetch(client: MlflowClient, run: Run, folder: Path, tracking_uri: str) -> int:
    """Fetch a run's artifacts, and the files of the models that it logged, into a folder each."""
    from mlflow.artifacts import download_artifacts

    if client.list_artifacts(run.info.run_id):
        client.download_artifacts(run.info.run_id, "", str(folder))
    outputs = getattr(run, "outputs", None)
    for one in outputs.model_outputs if outputs is not None else ():
        name = posixpath.basename(client.get_logged_model(one.model_id).name or "")
        target = folder / "models" / (one.model_id if name in ("", ".", "..") else name)
        if target.exists():  # a run may log models of one name, as after each epoch
            target = target.with_name(f"{target.name}-{one.model_id}")
        target.mkdir(parents=True)
        download_artifacts(
            artifact_uri=f"models:/{one.model_id}", dst_path=str(target), tracking_uri=tracking_uri
        )
    return sum(1 for path in folder.rglob("*") if path.is_file())
