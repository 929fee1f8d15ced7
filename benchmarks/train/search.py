"""Sixty trials, four at a time, on the flagship's dataset: ``python -m benchmarks.train.search [--folder PATH]``.

Takes about 20 minutes of processor time; ``--thin 8`` trains with every eighth row, which takes a fifth of that.
The study's driver is killed after a third of them (kill -9), and the search is run again; then the best settings by
validation are trained and measured on the test part, beside the pipeline's own settings and XGBoost's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster

from benchmarks.results import Row, report
from mlflow_core import train
from mlflow_core.spec import Float, Int, LogFloat, Search, XGBoost
from mlflow_core.telemetry.progress import ConsoleProgress
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.evaluate import evaluate
from mlflow_core.train.evaluation.truth import truth_of
from mlflow_core.train.search.recorder import StudyFacts, Trial
from mlflow_core.train.search.result import SearchResult
from mlflow_core.train.search.run import run_search

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = "late_arrival"
SEARCH = Search(
    trials=60,
    parallel=4,
    seed=1,
    space={
        "max_depth": Int(3, 9),
        "learning_rate": LogFloat(0.04, 0.3),
        "min_child_weight": LogFloat(5, 500),
        "l2": LogFloat(0.1, 100),
        "subsample": Float(0.5, 1),
        "colsample": Float(0.15, 1),
    },
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--drive", action="store_true", help="only run the search in --folder, as its driver")
    parser.add_argument("--thin", type=int, default=1, help="train with every so manieth row only")
    parser.add_argument("--trials", type=int, default=SEARCH.trials)
    given = parser.parse_args()
    search = SEARCH.model_copy(update={"trials": given.trials})
    if given.drive:
        drive(given.folder, search)
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="mlcore-search-"))
    report("train-search", measure(folder, search, given.thin))


def measure(folder: Path, search: Search, thin: int) -> list[Row]:
    build(folder, thin)
    began = time.monotonic()
    killed = kill(folder, search, max(1, search.trials // 3))
    result = drive(folder, search)
    seconds = time.monotonic() - began
    print(result.describe())
    told = [int(line) for line in (folder / "journal").read_text().split()]
    trials = {trial.number: trial for trial in result.trials}
    repeated = [number for number in told[:killed] if trials[number].attempts > 1]
    trained = data_in(folder).read("train", [data_in(folder).label]).num_rows
    case = f"{len(trials)} trials, {search.parallel} at a time, {PIPELINE}, {trained:,} rows"
    rows = [
        Row(
            case,
            "finished trials that were repeated",
            float(len(repeated)),
            "none",
            0.0,
            None,
            equal=not repeated and sorted(set(told)) == list(range(search.trials)),
            note=f"the driver was killed after {killed} trials, those of then were all found again",
        ),
        Row(
            case,
            "search, s",
            seconds,
            "",
            None,
            None,
            note=", ".join(f"{result.count(state)} {state}" for state in ("succeeded", "pruned", "failed"))
            + f"; best is trial {result.best.number}",
        ),
    ]
    return rows + compared(folder, search, result, case)


def compared(folder: Path, search: Search, result: SearchResult, case: str) -> list[Row]:
    """The best settings against the defaults on the test part."""
    data, default = data_in(folder), trainer_in(folder)
    contestants = {
        "best": result.trainer,
        "the pipeline's settings": default,
        "the same, stopped by log-loss": default.model_copy(update={"metric": "logloss"}),
        "XGBoost's defaults": XGBoost(
            rounds=150, early_stopping=15, metric="logloss", learning_rate=0.3, seed=7
        ),
    }
    names = list(search.space)
    assert all(
        [getattr(default, name) for name in names] != [one.settings[name] for name in names]
        for one in result.trials
    ), "the default is one of the trials"
    test = data.read("test")
    predictions = {}
    for number, (name, trainer) in enumerate(contestants.items()):
        context = train.TrainContext(workdir=folder / f"final-{number}")
        predictions[name] = train.fit(trainer, data, context).predict(test)
    found = evaluate(
        truth_of(default, test, data.label),
        predictions,
        ("log_loss", "auc"),
        times=test[data.time_column].cast("int64").to_numpy(),
        count=1000,
        seed=7,
    )
    rows = []
    for metric in ("log_loss", "auc"):
        best = found.score(metric, "best").value
        for name in contestants:
            if name == "best":
                continue
            other, apart = found.score(metric, name).value, found.difference(metric, "best", name)
            rows.append(
                Row(
                    case,
                    f"test {metric}",
                    best,
                    name,
                    other,
                    other / best if metric == "log_loss" else best / other,
                    goal=1.0,
                    holds=apart.low > 0,  # a difference above 0 is better, whatever the metric
                    note=f"difference {apart.value:+.5f} [{apart.low:+.5f}, {apart.high:+.5f}], by {found.unit}",
                )
            )
    return rows


def build(folder: Path, thin: int) -> None:
    """Build the flagship's training set in a copy of its project."""
    if (folder / "data.json").exists():
        return
    from feature_repo.prepare_data import prepare
    from mlflow_core.workflow.pipeline_dataset import build_for_pipeline
    from mlflow_core.workflow.project import open_workspace

    prepare()
    project = folder / "project"
    for name in ("feature_repo", "pipelines"):
        shutil.copytree(ROOT / name, project / name, dirs_exist_ok=True)
    shutil.copy(ROOT / "mlcore.toml", project)
    workspace = open_workspace(project)
    pipeline = workspace.pipeline(PIPELINE)
    stored, _ = build_for_pipeline(workspace, pipeline, progress=ConsoleProgress())
    shards = {part: [str(path) for path in paths] for part, paths in stored.data.shards.items()}
    if thin > 1:
        rows = stored.data.read("train")
        shards["train"] = [str(folder / "thin.parquet")]
        pq.write_table(rows.take(pa.array(range(0, rows.num_rows, thin))), folder / "thin.parquet")
    facts = {
        "shards": shards,
        "label": stored.data.label,
        "features": stored.data.features,
        "request": stored.data.request,
        "time_column": stored.data.time_column,
        "trainer": pipeline.trainer.model_dump(mode="json"),
    }
    (folder / "data.json").write_text(json.dumps(facts))


def data_in(folder: Path) -> TrainingData:
    facts = json.loads((folder / "data.json").read_text())
    shards = {part: tuple(Path(path) for path in paths) for part, paths in facts["shards"].items()}
    made = TrainingData(shards, facts["label"], tuple(facts["features"]), tuple(facts["request"]))
    return replace(made, time_column=facts["time_column"])


def trainer_in(folder: Path) -> XGBoost:
    return XGBoost(**json.loads((folder / "data.json").read_text())["trainer"])


class Journal:
    """Writes down each trial that has ended, so that a driver that is killed leaves what it told."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def study(self, study: StudyFacts) -> None:
        """Its name is the file's."""

    def trial(self, trial: Trial) -> None:
        with self._path.open("a") as file:
            file.write(f"{trial.number}\n")


def drive(folder: Path, search: Search) -> SearchResult:
    """Run the search, or go on with it."""
    trainer = trainer_in(folder).model_copy(update={"rounds": 150, "metric": "logloss"})
    with (
        LocalCluster(
            n_workers=4, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        context = train.TrainContext(workdir=folder / "work", client=client, progress=ConsoleProgress())
        return run_search(
            trainer,
            search,
            data_in(folder),
            context,
            name=PIPELINE,
            storage=folder / "study.sqlite",
            recorder=Journal(folder / "journal"),
        )


def kill(folder: Path, search: Search, trials: int) -> int:
    """Run a driver until so many trials have ended, and kill it; return how many had."""
    journal = folder / "journal"
    command = [sys.executable, "-m", "benchmarks.train.search", "--drive", "--folder", str(folder)]
    command += ["--trials", str(search.trials)]
    driver = subprocess.Popen(command, cwd=ROOT)
    while driver.poll() is None and (not journal.exists() or len(journal.read_text().split()) < trials):
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    return len(journal.read_text().split())


if __name__ == "__main__":
    main()
