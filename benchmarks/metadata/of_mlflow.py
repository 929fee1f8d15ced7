"""MLflow's side: its own SQLAlchemy store on SQLite, called directly, which is its fastest way: no server, no client.

Runs in an environment with MLflow in it and without ours.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunStatus, ViewType
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import create_engine, insert

from benchmarks.metadata.data import FILTER, LISTED, METRICS, GivenRun, given_runs, pair
from benchmarks.metadata.side import run_side

__all__ = ["OfMlflow"]

BATCH = 2_000

# What is told within so many seconds is one call of log_batch. Without it every step is one, in threads that wait for
# each other: that takes longer than to call log_batch for each step.
os.environ["MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS"] = "1"


class OfMlflow:
    """MLflow's store in one SQLite file."""

    def __init__(self, file: Path) -> None:
        self._url = f"sqlite:///{file}"
        self._store = SqlAlchemyStore(self._url, str(file.parent / "artifacts"))
        self._experiment = self._store.create_experiment("bench")

    def write_steps(self, run: GivenRun) -> str:
        """Write a run, each step in a call of its own."""
        run_id = self._begun(run)
        self._store.log_batch(run_id, [], _params(run), [])
        for number in range(len(run.steps)):
            self._store.log_batch(run_id, _metrics(run, number), [], [])
        self._ended(run_id, run)
        return run_id

    def write_batch(self, run: GivenRun) -> str:
        """Write a run, all its metrics in one call."""
        run_id = self._begun(run)
        metrics = chain.from_iterable(_metrics(run, number) for number in range(len(run.steps)))
        self._store.log_batch(run_id, list(metrics), _params(run), [])
        self._ended(run_id, run)
        return run_id

    def write_told(self, run: GivenRun) -> str:
        """Write a run, each step told by itself to MLflow's queue, which writes within a second."""
        run_id = self._begun(run)
        self._store.log_batch_async(run_id, [], _params(run), [])
        for number in range(len(run.steps)):
            self._store.log_batch_async(run_id, _metrics(run, number), [], [])
        self._store.flush_async_logging()
        self._ended(run_id, run)
        return run_id

    def read(self, run_id: str) -> Any:
        """Read a run back."""
        history = {}
        for number in range(METRICS):
            values = self._store.get_metric_history(run_id, f"m{number}")
            history[f"m{number}"] = sorted((one.step, one.value) for one in values)
        return {"params": dict(self._store.get_run(run_id).data.params), "metrics": history}

    def fill(self, count: int, n_steps: int) -> None:
        """Put many runs there, as rows."""
        engine = create_engine(self._url)
        with engine.begin() as connection:
            for runs in given_runs(count, n_steps, batch=BATCH):
                connection.execute(insert(SqlRun), [_row(run, int(self._experiment)) for run in runs])
                tags = [
                    {"run_uuid": _id(run.number), "key": "mlflow.runName", "value": run.pipeline}
                    for run in runs
                ]
                connection.execute(insert(SqlTag), tags)
                params = [[_param(run, name) for name in run.params] for run in runs]
                connection.execute(insert(SqlParam), list(chain(*params)))
                each = [
                    [_metric(run, step, name) for name in run.steps[step]]
                    for run in runs
                    for step in range(n_steps)
                ]
                connection.execute(insert(SqlMetric), list(chain(*each)))
                last = [[_metric(run, n_steps - 1, name) for name in run.steps[-1]] for run in runs]
                connection.execute(insert(SqlLatestMetric), list(chain(*last)))
        engine.dispose()

    def newest(self) -> Any:
        """List the newest runs."""
        return self._found("", ["attributes.start_time DESC"])

    def of_pipeline(self) -> Any:
        """List the newest runs of one pipeline, which here is the run's name."""
        return self._found("attributes.run_name = 'late-3'", ["attributes.start_time DESC"])

    def filtered(self) -> Any:
        """List what the filter finds."""
        metric, above, param, value = FILTER
        return self._found(
            f"metrics.{metric} > {above} and params.{param} = '{value}'", [f"metrics.{metric} DESC"]
        )

    def compared(self, count: int) -> Any:
        """Read two runs."""
        found = []
        for number in pair(count):
            run, values = self._store.get_run(_id(number)), {}
            for name in run.data.metrics:
                history = self._store.get_metric_history(_id(number), name)
                values[name] = sorted((one.step, one.value) for one in history)
            found.append([run.info.run_name, {"params": dict(run.data.params), "metrics": values}])
        return found

    def _found(self, asked: str, order: list[str]) -> Any:
        runs = self._store.search_runs([self._experiment], asked, ViewType.ACTIVE_ONLY, LISTED, order)
        return [[run.info.run_name, dict(run.data.params), dict(run.data.metrics)] for run in runs]

    def _begun(self, run: GivenRun) -> str:
        made = self._store.create_run(self._experiment, "bench", run.began_us // 1_000, [], run.pipeline)
        return str(made.info.run_id)

    def _ended(self, run_id: str, run: GivenRun) -> None:
        self._store.update_run_info(run_id, RunStatus.FINISHED, run.began_us // 1_000 + 1, None)


def _params(run: GivenRun) -> list[Param]:
    return [Param(name, value) for name, value in run.params.items()]


def _metrics(run: GivenRun, step: int) -> list[Metric]:
    return [Metric(name, value, run.began_us // 1_000, step) for name, value in run.steps[step].items()]


def _id(number: int) -> str:
    return f"{number:032x}"


def _row(run: GivenRun, experiment: int) -> dict[str, Any]:
    told = {
        "run_uuid": _id(run.number),
        "name": run.pipeline,
        "experiment_id": experiment,
        "user_id": "bench",
    }
    times = {"start_time": run.began_us // 1_000, "end_time": run.began_us // 1_000 + 1}
    return {**told, **times, "status": "FINISHED", "lifecycle_stage": "active", "source_type": "LOCAL"}


def _param(run: GivenRun, name: str) -> dict[str, Any]:
    return {"run_uuid": _id(run.number), "key": name, "value": run.params[name]}


def _metric(run: GivenRun, step: int, name: str) -> dict[str, Any]:
    when = {"timestamp": run.began_us // 1_000, "step": step, "is_nan": False}
    return {"run_uuid": _id(run.number), "key": name, "value": run.steps[step][name], **when}


if __name__ == "__main__":
    run_side(OfMlflow)
