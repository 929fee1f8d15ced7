"""Whether a model may be registered: its pipeline's gate, held against what was measured.

The figures come from an ``Evaluation`` that has the champion and the baselines among its models, on the same rows.
Every check leaves its evidence, also where it passes. A figure that is not defined does not pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlflow_core.errors import GateFailed, TrainError
from mlflow_core.spec.pipeline import Gate
from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.metrics import greater_is_better
from mlflow_core.train.evaluation.slices import Slice

__all__ = ["Check", "GateResult", "judge"]


@dataclass(frozen=True)
class Check:
    """One thing that the gate asks for.

    Args:
        name: What was asked, e.g. ``auc better than rate``.
        passed: Whether it holds.
        sentence: What was found, for people.
        evidence: The figures, JSON-able.
    """

    name: str
    passed: bool
    sentence: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class GateResult:
    """What a gate found.

    Args:
        passed: Whether all checks hold.
        checks: The checks in the order of the gate's fields.
    """

    passed: bool
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)

    def raise_if_failed(self, model: str) -> None:
        """Raise what the command turns into exit code 3.

        Raises:
            GateFailed: Names the model and each check that does not hold.
        """
        if not self.passed:
            raise GateFailed(
                "; ".join(check.sentence for check in self.checks if not check.passed),
                object=f'gate of model "{model}"',
                hint="Nothing was registered. Improve the model or change the gate.",
            )


def judge(
    gate: Gate,
    evaluation: Evaluation,
    *,
    champion: str | None = None,
    baselines: Sequence[str] = (),
) -> GateResult:
    """Hold a gate against the evaluation's first model.

    Args:
        gate: What must hold.
        evaluation: Measured on the test part, with champion and baselines among its models.
        champion: The champion's name in the evaluation; None if there is none yet, which passes.
        baselines: The baselines' names in the evaluation.

    Raises:
        TrainError: The gate asks for what was not measured.
    """
    checks: list[Check] = []
    if gate.better_than == "champion":
        checks.append(
            _better(gate, evaluation, champion)
            if champion is not None
            else Check(
                f"{gate.metric} better than champion", True, "there is no champion yet", {"champion": None}
            )
        )
    elif gate.better_than == "baselines":
        if not baselines:
            raise TrainError("the gate compares with baselines, but none was evaluated")
        checks += [_better(gate, evaluation, baseline) for baseline in baselines]
    checks += [_at_least(evaluation, metric, limit) for metric, limit in gate.at_least.items()]
    for metric, limit in gate.worst_slice.items():
        checks += _worst(evaluation, metric, limit)
    return GateResult(all(check.passed for check in checks), tuple(checks))


def _better(gate: Gate, evaluation: Evaluation, other: str) -> Check:
    model, metric = evaluation.models[0], gate.metric
    found = evaluation.difference(metric, model, other)
    passed = found.low > gate.margin
    sentence = (
        f"{metric} of {model} is {'' if passed else 'not '}better than {other}'s by more than {gate.margin:g}: "
        f"difference {found.value:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    )
    evidence = {
        "metric": metric,
        "model": model,
        "other": other,
        "margin": gate.margin,
        "difference": found.to_json(),
        "model_score": evaluation.score(metric, model).to_json(),
        "other_score": evaluation.score(metric, other).to_json(),
        "unit": evaluation.unit,
        "resamples": evaluation.resamples,
        "seed": evaluation.seed,
        "rows": evaluation.rows,
    }
    return Check(f"{metric} better than {other}", passed, sentence, evidence)


def _at_least(evaluation: Evaluation, metric: str, limit: float) -> Check:
    found = evaluation.score(metric)
    passed, asked = _reaches(metric, found.value, limit)
    evidence = {"metric": metric, "limit": limit, "score": found.to_json()}
    return Check(f"{metric} {asked}", passed, f"{metric} is {found.value:.4f}, asked for {asked}", evidence)


def _worst(evaluation: Evaluation, metric: str, limit: float) -> list[Check]:
    """One check per column. A slice too small to say much cannot fail a model; the evidence names those left out."""
    checks = []
    for column in dict.fromkeys(one.column for one in evaluation.slices):
        own = [one for one in evaluation.slices if one.column == column]
        large = [one for one in own if not one.small and metric in one.metrics]
        left_out = [one.value for one in own if one.small]
        evidence: dict[str, Any] = {"metric": metric, "limit": limit, "column": column, "too_small": left_out}
        _, asked = _reaches(metric, limit, limit)
        name = f"{metric} of the worst {column} {asked}"
        if not large:
            checks.append(Check(name, True, f"every slice of {column} is too small to judge", evidence))
            continue
        worst = min(large, key=lambda one: _goodness(metric, one))
        value = worst.metrics[metric].value
        passed, _ = _reaches(metric, value, limit)
        evidence |= {"slice": worst.value, "rows": worst.rows, "score": worst.metrics[metric].to_json()}
        sentence = f"{metric} of {column} {worst.value} is {value:.4f}, asked for {asked}"
        checks.append(Check(name, passed, sentence, evidence))
    if not checks:
        raise TrainError(f"the gate limits {metric} of the worst slice, but no slices were measured")
    return checks


def _goodness(metric: str, one: Slice) -> float:
    value = one.metrics[metric].value
    if math.isnan(value):
        return -math.inf
    return value if greater_is_better(metric) else -value


def _reaches(metric: str, value: float, limit: float) -> tuple[bool, str]:
    if greater_is_better(metric):
        return value >= limit, f"at least {limit:g}"
    return value <= limit, f"at most {limit:g}"
