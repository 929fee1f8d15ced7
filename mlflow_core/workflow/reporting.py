"""Gather what a run's report shows; how it looks is ``train.report``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.config.times import parse_time
from mlflow_core.plan.dataset import PARTS
from mlflow_core.spec import TrainingPipeline
from mlflow_core.train.curves import importance
from mlflow_core.train.evaluate import Evaluation
from mlflow_core.train.gate import GateResult
from mlflow_core.train.model import Model
from mlflow_core.train.report import PartFacts, Report, write_report
from mlflow_core.workflow.clocks import ClockComparison
from mlflow_core.workflow.dataset import StoredDataset

__all__ = ["Measured", "write_run_report"]

_EXAMPLES = 12
_SAMPLED_ROWS = 4000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """The test part and what was measured on it.

    Attributes:
        test: The rows, (n,).
        y: The truth, (n,).
        predictions: Predictions by model, (n,) each; the first is the model in question.
        evaluation: The figures.
        champion: The champion's name among the models, or None.
    """

    test: pa.Table
    y: Floats
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
    """Write the report of a run as one HTML file.

    Args:
        path: The file.
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
    report = Report(
        title=spec.name,
        question=spec.description or f"{dataset.data.label}: {dataset.manifest['label']['meaning']}",
        model=model,
        evaluation=measured.evaluation,
        y=measured.y,
        predictions=measured.predictions,
        parts=[_part(dataset, name) for name in PARTS],
        importance=importance(
            model,
            measured.test,
            measured.y,
            metric=metric,
            rows=_SAMPLED_ROWS,
            repeats=2,
            seed=spec.trainer.seed,
        ),
        importance_metric=metric,
        clocks=clocks.evaluation if clocks else None,
        gate=gate,
        examples=_examples(dataset, measured),
        facts={
            **facts,
            "clock": dataset.manifest["clock"],
            "dataset": dataset.artifact.digest,
            "features of": spec.data.features.name,
        },
    )
    return write_report(report, path)


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


def _examples(dataset: StoredDataset, measured: Measured) -> pa.Table:
    """Take rows evenly from the least to the greatest prediction, so that all kinds are seen."""
    predicted = next(iter(measured.predictions.values()))
    order = np.argsort(predicted, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_EXAMPLES, len(order))).astype(int))]
    data = dataset.data
    keys = [
        name
        for name in measured.test.column_names
        if name not in {*data.features, data.label, data.time_column}
    ]
    rows = measured.test.select([data.time_column, *keys[:6], data.label]).take(pa.array(chosen))
    return rows.append_column("predicted", pa.array(predicted[chosen]))
