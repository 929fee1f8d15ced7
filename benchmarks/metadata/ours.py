"""Our side: ``MetadataStore`` by its public calls."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert, select

from benchmarks.metadata.data import FILTER, LISTED, GivenRun, given_runs, pair
from benchmarks.metadata.side import run_side
from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import Bound, MetadataStore, Metric, Run
from mlflow_core.metadata.tables import Table

__all__ = ["Ours"]

BATCH = 2_000


class Ours:
    """Our store in one SQLite file."""

    def __init__(self, file: Path) -> None:
        self._url = f"sqlite:///{file}"
        self._store = MetadataStore(self._url, SystemClock(), Principal("bench"))

    def write_steps(self, run: GivenRun) -> str:
        """Write a run, each step in a transaction of its own."""
        made = self._store.create_run(run.pipeline)
        self._store.log_params(made.id, run.params)
        for number, metrics in enumerate(run.steps):
            self._store.log_metrics(made.id, metrics, step=number)
        self._store.finish_run(made.id, "succeeded")
        return made.id

    def write_batch(self, run: GivenRun) -> str:
        """Write a run, all its metrics in one transaction."""
        made = self._store.create_run(run.pipeline)
        self._store.log_params(made.id, run.params)
        self._store.log_metrics(
            made.id,
            [Metric(name, value, step) for step, one in enumerate(run.steps) for name, value in one.items()],
        )
        self._store.finish_run(made.id, "succeeded")
        return made.id

    def write_told(self, run: GivenRun) -> str:
        """Write a run as a run of ours is written: each step is told by itself, and written within a second."""
        made = self._store.create_run(run.pipeline)
        self._store.log_params(made.id, run.params)
        with self._store.metric_writer(made.id) as writer:
            for number, metrics in enumerate(run.steps):
                writer.write(metrics, step=number)
        self._store.finish_run(made.id, "succeeded")
        return made.id

    def read(self, run_id: str) -> Any:
        """Read a run back."""
        history: dict[str, list[tuple[int, float]]] = {}
        for metric in self._store.get_metrics(run_id):
            history.setdefault(metric.name, []).append((metric.step, metric.value))
        return {"params": self._store.get_params(run_id), "metrics": history}

    def fill(self, count: int, n_steps: int) -> None:
        """Put many runs there, as rows."""
        self._store.finish_run(self._store.create_run("first").id, "succeeded")  # makes the project
        tables, engine = Table.metadata.tables, create_engine(self._url)
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM mlcore_runs")
            project = connection.execute(select(tables["mlcore_projects"].c.id)).scalar_one()
            for runs in given_runs(count, n_steps, batch=BATCH):
                connection.execute(insert(tables["mlcore_runs"]), [_row(run, project) for run in runs])
                params = [[_param(run, name) for name in run.params] for run in runs]
                connection.execute(insert(tables["mlcore_params"]), list(chain(*params)))
                each = [
                    [_metric(run, step, name) for name in run.steps[step]]
                    for run in runs
                    for step in range(n_steps)
                ]
                connection.execute(insert(tables["mlcore_metrics"]), list(chain(*each)))
                last = [[_metric(run, n_steps - 1, name) for name in run.steps[-1]] for run in runs]
                connection.execute(insert(tables["mlcore_latest_metrics"]), list(chain(*last)))
        engine.dispose()

    def newest(self) -> Any:
        """List the newest runs."""
        return self._whole(self._store.list_runs(limit=LISTED))

    def of_pipeline(self) -> Any:
        """List the newest runs of one pipeline."""
        return self._whole(self._store.list_runs(pipeline="late-3", limit=LISTED))

    def filtered(self) -> Any:
        """List what the filter finds."""
        metric, above, param, value = FILTER
        found = self._store.list_runs(
            metrics=[Bound(metric, ">", above)], params={param: value}, order_by=metric, limit=LISTED
        )
        return self._whole(found)

    def compared(self, count: int) -> Any:
        """Read two runs."""
        both = [self._store.get_run(_id(number)) for number in pair(count)]
        return [[run.pipeline, self.read(run.id)] for run in both]

    def _whole(self, runs: list[Run]) -> Any:
        ids = [run.id for run in runs]
        params, metrics = self._store.params_of_runs(ids), self._store.latest_metrics(ids)
        return [
            [run.pipeline, params[run.id], {name: one.value for name, one in metrics[run.id].items()}]
            for run in runs
        ]


def _id(number: int) -> str:
    return f"20260101T000000-{number:010x}"


def _row(run: GivenRun, project: int) -> dict[str, Any]:
    told = {"id": _id(run.number), "project_id": project, "pipeline": run.pipeline, "kind": "train"}
    times = {"created_us": run.began_us, "started_us": run.began_us, "ended_us": run.began_us + 1}
    who = {"principal": "bench", "established": "os", "code": {}, "environment": {}, "tags": {}}
    return {**told, **times, **who, "state": "succeeded"}


def _param(run: GivenRun, name: str) -> dict[str, Any]:
    return {"run_id": _id(run.number), "name": name, "value": f'"{run.params[name]}"'}


def _metric(run: GivenRun, step: int, name: str) -> dict[str, Any]:
    return {
        "run_id": _id(run.number),
        "name": name,
        "step": step,
        "value": run.steps[step][name],
        "at_us": run.began_us,
    }


if __name__ == "__main__":
    run_side(Ours)
