"""What a report shows, as a value: gathered by whoever ran the training, drawn by the modules beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mlflow_core.train.evaluation.contributions import Contributions
from mlflow_core.train.evaluation.decisions import Costs
from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.findings import Finding
from mlflow_core.train.evaluation.gate import GateResult
from mlflow_core.train.evaluation.importance import Importance
from mlflow_core.train.evaluation.metrics import Floats
from mlflow_core.train.evaluation.truth import Truth
from mlflow_core.train.models.model import Model

__all__ = ["DEFAULT_COSTS", "PartFacts", "Report"]

DEFAULT_COSTS = (Costs(), Costs(miss=3.0), Costs(miss=10.0))
"""Costs that a classifier is shown under where nobody said what its mistakes cost."""


@dataclass(frozen=True)
class PartFacts:
    """One part of the dataset, or all of it.

    Args:
        name: ``train``, ``validate`` or ``test``.
        rows: Its rows.
        positives: Those whose label is 1; None where it is not 0 or 1.
        start: Its first query time, microseconds since epoch, UTC.
        end: Its last.
        left_out: Rows by the reason for which they were left out.
    """

    name: str
    rows: int
    positives: int | None
    start: int | None = None
    end: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Args:
        title: The model's name.
        question: One sentence: what it predicts, and when.
        model: The model.
        evaluation: Its figures and those of the models beside it, on the test part.
        y: The truth of the test part; labels alone, (n,), where the metrics need nothing else.
        predictions: Predictions of the test part by model, as evaluated, (n,) or (n, k).
        parts: The parts of the dataset.
        importance: What each feature is worth.
        importance_metric: The metric by which ``importance`` was measured.
        clocks: The same pipeline under several clocks, the deployed one first; None if only one was trained.
        gate: What the gate found.
        examples: A few rows to look at, with predictions and outcomes.
        facts: Facts of the run by name: identifiers, versions, durations.
        contributions: What features did to predictions; None if nobody looked.
        findings: What the checks for leaks and drift noticed; None if nobody looked.
        checked: What they looked at, a sentence.
        costs: What mistakes of a classifier cost, for its cost curves.
    """

    title: str
    question: str
    model: Model
    evaluation: Evaluation
    y: Truth | Floats
    predictions: Mapping[str, Floats]
    parts: Sequence[PartFacts]
    importance: Sequence[Importance] = ()
    importance_metric: str = "auc"
    clocks: Evaluation | None = None
    gate: GateResult | None = None
    examples: pa.Table | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    contributions: Contributions | None = None
    findings: Sequence[Finding] | None = None
    checked: str = ""
    costs: Sequence[Costs] = DEFAULT_COSTS

    @property
    def first(self) -> str:
        """The name of the model in question."""
        return self.evaluation.models[0]

    @property
    def truth(self) -> Truth:
        """The truth, its task guessed from the metrics where only labels were given."""
        if isinstance(self.y, Truth):
            return self.y
        return Truth.of(self.y, self.evaluation.metrics, self.predictions[self.first])
