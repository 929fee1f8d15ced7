"""Gather what a run's report shows; how it looks is ``train.report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.config.times import parse_time
from mlflow_core.plan.dataset import PARTS
from mlflow_core.spec import TrainingPipeline
from mlflow_core.train.evaluation.contributions import contributions
from mlflow_core.train.evaluation.drift import Drift, find_drift
from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.findings import worst_first
from mlflow_core.train.evaluation.gate import GateResult
from mlflow_core.train.evaluation.importance import importance
from mlflow_core.train.evaluation.leakage import find_leakage
from mlflow_core.train.evaluation.sampling import read_sample
from mlflow_core.train.evaluation.truth import Truth
from mlflow_core.train.models.model import Model
from mlflow_core.train.report.card import ModelCard, feature_facts, write_card
from mlflow_core.train.report.contents import PartFacts, Report
from mlflow_core.train.report.report import write_report
from mlflow_core.workflow.clocks import ClockComparison
from mlflow_core.workflow.dataset import StoredDataset

__all__ = ["Measured", "write_run_report"]

_EXAMPLES, _OUTPUTS = 12, 5
_SAMPLED_ROWS = 4000
_CHECKED_ROWS = 100_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """The test part and what was measured on it.

    Attributes:
        test: The rows, (n,).
        truth: The labels, with what the task's metrics need.
        predictions: Predictions by model, (n,) or (n, k) each; the first is the model in question.
        evaluation: The figures.
        champion: The champion's name among the models, or None.
    """

    test: pa.Table
    truth: Truth
    predictions: Mapping[str, Floats]
    evaluation: Evaluation
    champion: str | None


def write_run_report(
    path: Path,
    *,
    spec: TrainingPipeline,
    dataset: StoredDataset,
    model: Model,
    measured: Measured,
    gate: GateResult | None,
    clocks: ClockComparison | None,
    facts: Mapping[str, str],
) -> Path:
    """Write the report of a run as one HTML file, and the model's card beside it.

    Args:
        path: The file; ``model_card.md`` and ``model_card.html`` stand in its folder.
        spec: The pipeline.
        dataset: What the model was trained on.
        model: The model.
        measured: How it did.
        gate: What the gate found.
        clocks: What the other clocks say.
        facts: Facts of the run by name.

    Returns:
        The path.
    """
    metric = spec.evaluate[0]
    sample = read_sample(dataset.data, "train", _CHECKED_ROWS)
    leaks = find_leakage(
        model.preprocessing,
        sample,
        measured.test,
        dataset.data.label,
        keys=_keys(dataset, measured.test),
        seed=spec.trainer.seed,
    )
    drift = find_drift(model.preprocessing, sample, measured.test, dataset.data.label, seed=spec.trainer.seed)
    report = Report(
        title=spec.name,
        question=spec.description or _meaning(dataset),
        model=model,
        evaluation=measured.evaluation,
        y=measured.truth,
        predictions=measured.predictions,
        parts=[_part(dataset, name) for name in PARTS],
        importance=importance(
            model,
            measured.test,
            measured.truth,
            metric=metric,
            rows=_SAMPLED_ROWS,
            repeats=2,
            seed=spec.trainer.seed,
        ),
        importance_metric=metric,
        clocks=clocks.evaluation if clocks else None,
        gate=gate,
        examples=_examples(dataset, measured, model.outputs),
        facts={
            **facts,
            "clock": dataset.manifest["clock"],
            "dataset": dataset.artifact.digest,
            "features of": spec.data.features.name,
        },
        contributions=contributions(model, measured.test, seed=spec.trainer.seed),
        findings=worst_first([*leaks, *drift.findings]),
        checked=_checked(sample, measured.test, drift),
    )
    write_card(_card(report, spec, dataset, sample, measured), path.parent)
    return write_report(report, path)


def _card(
    report: Report, spec: TrainingPipeline, dataset: StoredDataset, sample: pa.Table, measured: Measured
) -> ModelCard:
    return ModelCard(
        name=spec.model,
        purpose=spec.description,
        owner=spec.owner,
        label=_meaning(dataset),
        model=report.model,
        parts=report.parts,
        features=feature_facts(report.model, sample, measured.test, report.importance, report.contributions),
        evaluation=report.evaluation,
        findings=report.findings,
        importance_metric=report.importance_metric,
        contributions=report.contributions,
        facts=report.facts,
    )


def _meaning(dataset: StoredDataset) -> str:
    return f"{dataset.data.label}: {dataset.manifest['label']['meaning']}"


def _checked(sample: pa.Table, test: pa.Table, drift: Drift) -> str:
    apart = f" A small model tells them apart with AUC {drift.auc:.3f}." if np.isfinite(drift.auc) else ""
    return (
        f"{sample.num_rows:,} rows of the training part and {test.num_rows:,} of the test part were compared, and each "
        f"feature alone was held against the label.{apart}"
    )


def _keys(dataset: StoredDataset, test: pa.Table) -> tuple[str, ...]:
    """The columns that name a row, with its time; none where the dataset carries no such column."""
    data = dataset.data
    own = {*data.features, data.label, data.time_column} - set(data.request)
    named = [
        field.name
        for field in test.schema
        if field.name not in own
        and (
            pa.types.is_string(field.type)
            or pa.types.is_integer(field.type)
            or pa.types.is_boolean(field.type)
        )
    ]
    return (data.time_column, *named) if named else ()


def _part(dataset: StoredDataset, name: str) -> PartFacts:
    rows = dataset.manifest["rows"][name]
    told = dataset.manifest["parts"].get(name, {})
    boolean = dataset.manifest["schema"][dataset.data.label] == "bool"
    return PartFacts(
        name=name,
        rows=rows,
        positives=round(told["label_mean"] * rows) if boolean and "label_mean" in told else None,
        start=parse_time(told["from"]) if told else None,
        end=parse_time(told["to"]) if told else None,
        left_out=told.get("left_out", {}),
    )


def _examples(dataset: StoredDataset, measured: Measured, outputs: Sequence[str]) -> pa.Table:
    """Take rows evenly from the least to the greatest prediction, so that all kinds are seen."""
    predicted = next(iter(measured.predictions.values()))
    several = predicted if predicted.ndim == 2 else predicted[:, None]
    order = np.argsort(several[:, several.shape[1] // 2], kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_EXAMPLES, len(order))).astype(int))]
    data = dataset.data
    keys = [
        name
        for name in measured.test.column_names
        if name not in {*data.features, data.label, data.time_column}
    ]
    rows = measured.test.select([data.time_column, *keys[:6], data.label]).take(pa.array(chosen))
    if predicted.ndim == 1:
        return rows.append_column("predicted", pa.array(predicted[chosen]))
    for name, values in list(zip(outputs, predicted[chosen].T, strict=True))[:_OUTPUTS]:
        rows = rows.append_column(f"predicted {name}", pa.array(values))
    return rows
