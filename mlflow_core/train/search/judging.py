"""By which figure trials are judged: the trainer's own validation metric, or one of ours on the validation rows.

Either is better greater or smaller, which has to be known before the first trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.metric import DEFAULT_METRICS, METRICS, parse_metric, task_of
from mlflow_core.spec.search import Search
from mlflow_core.spec.trainer import Torch, Trainer, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.metrics import greater_is_better
from mlflow_core.train.evaluation.truth import truth_of
from mlflow_core.train.models.model import Model
from mlflow_core.train.xgboost.direction import is_maximised

__all__ = ["Judge", "judge_of", "measured", "told_value"]

_OF_OBJECTIVE: Mapping[str, str] = {
    "binary:": "logloss",
    "multi:": "mlogloss",
    "rank:map": "map",
    "rank:": "ndcg",
    "survival:cox": "cox-nloglik",
    "survival:aft": "aft-nloglik",
    "reg:quantileerror": "quantile",
    "reg:squarederror": "rmse",
    "reg:absoluteerror": "mae",
}
_PREFIX = "validate_"


@dataclass(frozen=True)
class Judge:
    """The figure that decides.

    Args:
        name: Its name.
        ours: Whether it is measured after training on the validation rows; else it is the trainer's own.
        greater: Whether greater is better.
        own_greater: Whether greater is better of the trainer's own metric, which trials are pruned by.
    """

    name: str
    ours: bool
    greater: bool
    own_greater: bool

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """``maximize`` or ``minimize``."""
        return "maximize" if self.greater else "minimize"


def judge_of(trainer: Trainer, search: Search) -> Judge:
    """Decide what trials are judged by.

    Raises:
        SpecError: There is no such metric, or it is not for the trainer's task.
        TrainError: The trainer has no validation metric of its own, and none is named.
    """
    own, own_greater = _own(trainer)
    if search.metric is None:
        if own is not None:
            return Judge(own, False, own_greater, own_greater)
        task = task_of(trainer)
        if task == "anomaly":
            raise TrainError(
                "the model is judged by no label, so the search has nothing to go by",
                object="Search",
                place=search.place,
                hint='Name a metric that the dataset can tell, e.g. metric="average_precision".',
            )
        name = DEFAULT_METRICS[task][0]
        return Judge(name, True, greater_is_better(name), own_greater)
    if search.metric == own:
        return Judge(own, False, own_greater, own_greater)
    try:
        tasks = METRICS[parse_metric(search.metric)[0]]
    except ValueError:
        known = [*METRICS, *([own] if own else [])]
        raise search.wrong(f'"{search.metric}" is not a metric', hint=nearest(search.metric, known)) from None
    if task_of(trainer) not in tasks:
        raise search.wrong(
            f'the metric "{search.metric}" does not measure the task "{task_of(trainer)}" of the trainer',
            hint=nearest(search.metric, [name for name, of in METRICS.items() if task_of(trainer) in of]),
        )
    return Judge(search.metric, True, greater_is_better(search.metric), own_greater)


def told_value(metrics: Mapping[str, float], name: str | None) -> float | None:
    """The trainer's own validation metric among what it tells of a round or epoch; None if it is not there."""
    if name is not None and f"{_PREFIX}{name}" in metrics:
        return float(metrics[f"{_PREFIX}{name}"])
    own = [value for key, value in metrics.items() if key.startswith(_PREFIX)]
    return float(own[0]) if own else None


def measured(
    judge: Judge, model: Model, data: TrainingData, trainer: Trainer, also: tuple[str, ...]
) -> dict[str, float]:
    """Judge a model: what decides as ``value``, and further metrics by name.

    Args:
        judge: What decides.
        model: The model.
        data: Has the validation part.
        trainer: What it was trained with.
        also: Metrics that conditions ask for.

    Raises:
        TrainError: The model has no such history, or the validation rows cannot be measured.
    """
    found: dict[str, float] = {}
    ours = list(dict.fromkeys((*([judge.name] if judge.ours else []), *also)))
    if ours:
        from mlflow_core.train.evaluation.metrics import measure

        columns = [*model.features, *(one for one in (data.label, *trainer.columns) if one)]
        rows = data.read("validate", list(dict.fromkeys(columns)))
        truth, said = truth_of(trainer, rows, data.label, outputs=model.outputs), model.predict(rows)
        found = {name: measure(name, truth, said) for name in ours}
    return {**found, "value": found[judge.name] if judge.ours else _from_history(judge, model)}


def _own(trainer: Trainer) -> tuple[str | None, bool]:
    """The trainer's own validation metric, and whether greater is better."""
    if isinstance(trainer, XGBoost):
        by_prefix = (metric for of, metric in _OF_OBJECTIVE.items() if trainer.objective.startswith(of))
        name = trainer.metric or next(by_prefix, "loss")
        return name, is_maximised(name)
    return ("loss", False) if isinstance(trainer, Torch) else (None, False)


def _from_history(judge: Judge, model: Model) -> float:
    validated = {
        name.removeprefix(_PREFIX): values
        for name, values in model.history.items()
        if not name.startswith("train")
    }
    if not validated:
        raise TrainError(
            "the model has no history of a validation metric", hint="Name one of ours in the search's metric."
        )
    values = validated.get(judge.name) or next(iter(validated.values()))
    return float(values[model.best if model.best is not None else -1])
