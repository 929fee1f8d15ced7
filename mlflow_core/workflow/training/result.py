"""What a run of a training pipeline gave, read from the artifacts that its steps left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.gate import Check, GateResult
from mlflow_core.train.evaluation.kept import kept_evaluation
from mlflow_core.workflow.clocks import ClockComparison
from mlflow_core.workflow.dataset import StoredDataset, open_dataset
from mlflow_core.workflow.driving import Driven
from mlflow_core.workflow.graph import Output
from mlflow_core.workflow.training.measuring import CLOCKS, read_clocks
from mlflow_core.workflow.training.recipe import DATASET, EVALUATE, Recipe
from mlflow_core.workflow.training.releasing import GATE, REGISTER, REPORT, REPORT_FILE

__all__ = ["Trained", "show_report", "trained"]


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Attributes:
        run_id: The run.
        model: The registered model's name.
        version: Its version; a model that was registered before keeps its own.
        alias: The alias that it is registered for.
        dataset: What it was trained on.
        evaluation: How it did on the test part, beside its baselines.
        gate: What the gate found, or None without one.
        clocks: What the other clocks say, if that was asked for.
        report: The report, one HTML file; a copy of the artifact under a name that browsers know.
        seconds: How long each step took.
        found: The steps whose output was found, so that they did nothing.
        warnings: What a person should know.
    """

    run_id: str
    model: str
    version: int
    alias: str
    dataset: StoredDataset
    evaluation: Evaluation
    gate: GateResult | None
    clocks: ClockComparison | None
    report: Path
    seconds: Mapping[str, float]
    found: tuple[str, ...]
    warnings: tuple[str, ...]


def trained(recipe: Recipe, driven: Driven, outputs: Mapping[str, Output]) -> Trained:
    """Read what the steps left.

    Args:
        recipe: The run.
        driven: Knows how the steps went.
        outputs: By step.
    """
    artifacts, folder = recipe.workspace.artifacts, driven.draft / "result"
    registered = orjson.loads(artifacts.read_bytes(outputs[REGISTER].digest))
    clocks, run_id = outputs.get(CLOCKS), driven.journal.run_id
    return Trained(
        run_id=run_id,
        model=registered["model"],
        version=registered["version"],
        alias=registered["alias"],
        dataset=open_dataset(artifacts.about(outputs[DATASET].digest, name=DATASET), artifacts),
        evaluation=kept_evaluation(artifacts.fetch_tree(outputs[EVALUATE].digest, folder / "evaluation")),
        gate=_gate(artifacts, outputs.get(GATE)),
        clocks=read_clocks(artifacts, clocks, folder / "clocks") if clocks is not None else None,
        report=show_report(recipe, run_id, outputs[REPORT]),
        seconds=driven.seconds,
        found=driven.found,
        warnings=driven.warnings + _alias_elsewhere(recipe, registered),
    )


def _alias_elsewhere(recipe: Recipe, registered: Mapping[str, Any]) -> tuple[str, ...]:
    """Say where the alias of a registered version points, if that is somewhere else."""
    model, alias = registered["model"], registered["alias"]
    now = recipe.workspace.metadata.aliases(model).get(alias)
    if now == registered["version"]:
        return ()
    where = f"points at version {now}" if now is not None else "was taken away"
    return (
        f"{model}@{alias} {where} by hand and stays so; version {registered['version']} is registered. "
        f"To move it: mlcore models alias {model} {alias} {registered['version']} --why ...",
    )


def show_report(recipe: Recipe, run_id: str, report: Output) -> Path:
    """Copy a run's report to where people find it."""
    artifacts, reports = recipe.workspace.artifacts, recipe.workspace.reports
    shown = reports / f"{recipe.spec.name}-{run_id}.html"
    reports.mkdir(parents=True, exist_ok=True)
    digest = next(one.digest for one in artifacts.files_of(report.digest) if one.path == REPORT_FILE)
    with artifacts.open(digest) as stream, shown.open("wb") as page:
        shutil.copyfileobj(stream, page)
    return shown


def _gate(artifacts: ArtifactStore, gate: Output | None) -> GateResult | None:
    if gate is None:
        return None
    told = orjson.loads(artifacts.read_bytes(gate.digest))
    return GateResult(told["passed"], tuple(Check(**one) for one in told["checks"]))
