"""What a trainer's fields are to XGBoost, and whether XGBoost takes them: told before any data is read.

XGBoost itself is the judge. Four rows that suit the objective are trained on for one round, with all that was set
except the device, which the machine that asks need not have. Data is not known here; what it must hold is in
``columns``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xgboost

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.metric import task_of
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.models.booster import reason
from mlflow_core.train.models.scorer import Task

__all__ = ["check_settings", "names_of_outputs", "parameters", "task"]

_OWN: Final[Mapping[str, str]] = {
    "objective": "objective",
    "eval_metric": "metric",
    "max_depth": "max_depth",
    "eta": "learning_rate",
    "learning_rate": "learning_rate",
    "subsample": "subsample",
    "colsample_bytree": "colsample",
    "min_child_weight": "min_child_weight",
    "lambda": "l2",
    "reg_lambda": "l2",
    "max_bin": "max_bin",
    "seed": "seed",
    "random_state": "seed",
    "nthread": "workers",
    "n_jobs": "workers",
    "num_boost_round": "rounds",
    "n_estimators": "rounds",
    "early_stopping_rounds": "early_stopping",
    "num_class": "classes",
    "quantile_alpha": "quantiles",
    "monotone_constraints": "monotone",
    "device": "device",
}
_SAME_TREES: Final = {"multi:softmax": "multi:softprob", "binary:logitraw": "binary:logistic"}
_LABELS: Final[Mapping[str, tuple[float, ...]]] = {
    "reg:gamma": (1.0, 2.0, 1.0, 2.0),
    "survival:cox": (1.0, -2.0, 3.0, 4.0),
}


def parameters(trainer: XGBoost, features: Sequence[str], *, threads: int) -> dict[str, Any]:
    """XGBoost's own parameters for a trainer.

    Args:
        trainer: The settings.
        features: The features' names in the model's order.
        threads: Threads of the rank.

    Raises:
        TrainError: ``params`` sets what a field of the trainer sets, or ``monotone`` names no feature.
    """
    for name in trainer.params:
        if name in _OWN:
            raise _refused(
                trainer,
                f'params sets "{name}", which is the field "{_OWN[name]}"',
                hint=f"Write XGBoost({_OWN[name]}=...).",
            )
    own: dict[str, Any] = {
        "objective": trainer.objective,
        "tree_method": "hist",
        "device": trainer.device,
        "max_depth": trainer.max_depth,
        "learning_rate": trainer.learning_rate,
        "subsample": trainer.subsample,
        "colsample_bytree": trainer.colsample,
        "min_child_weight": trainer.min_child_weight,
        "reg_lambda": trainer.l2,
        "max_bin": trainer.max_bin,
        "seed": trainer.seed,
        "nthread": threads,
        "validate_parameters": True,
        "verbosity": 1,
    }
    if trainer.metric is not None:
        own["eval_metric"] = trainer.metric
    if trainer.classes is not None and trainer.objective.startswith("multi:"):
        own["num_class"] = trainer.classes
    if trainer.quantiles:
        own["quantile_alpha"] = list(trainer.quantiles)
    if trainer.monotone:
        own["monotone_constraints"] = _monotone(trainer, features)
    return own | trainer.params


def task(trainer: XGBoost) -> Task:
    """What the model's values are."""
    return task_of(trainer)


def names_of_outputs(trainer: XGBoost, label: str) -> tuple[str, ...]:
    """The names of the values that the trees give for each row: classes, quantiles, targets; empty where it is one.

    Args:
        trainer: The settings.
        label: The dataset's label.
    """
    if trainer.objective.startswith("multi:"):
        return tuple(str(one) for one in range(trainer.classes or 0))
    if len(trainer.quantiles) > 1:
        return tuple(f"{one:g}" for one in trainer.quantiles)
    return (label, *trainer.targets) if trainer.targets else ()


def check_settings(trainer: XGBoost, features: Sequence[str], label: str) -> None:
    """Train one round on four rows, so that a wrong setting is told before any data is read.

    Args:
        trainer: The settings.
        features: The features' names.
        label: The dataset's label.

    Raises:
        TrainError: Fields do not go together, or XGBoost refuses the objective, the metric or a parameter.
    """
    _check_fields(trainer)
    booster, rows = _train_on_four_rows(trainer, features)
    if trainer.early_stopping and not booster.eval_set([(rows, "validate")]).partition("\t")[2]:
        raise _refused(
            trainer, "early_stopping watches a metric, and there is none", hint="Name one with metric=."
        )
    values, outputs = booster.predict(rows), names_of_outputs(trainer, label)
    given = values.shape[1] if values.ndim > 1 else 1
    if given != max(1, len(outputs)) or values.ndim > 2:
        raise _refused(
            trainer,
            f'the objective "{trainer.objective}" gives {given} values per row',
            expected=f"{max(1, len(outputs))}, as classes, quantiles and targets are set",
        )


def _check_fields(trainer: XGBoost) -> None:
    family = trainer.objective.partition(":")[0]
    if trainer.objective == "binary:hinge":
        raise _refused(
            trainer,
            'the objective "binary:hinge" gives 0 or 1, not probabilities',
            hint='Use "binary:logistic".',
        )
    if trainer.objective in _SAME_TREES:
        instead = _SAME_TREES[trainer.objective]
        raise _refused(
            trainer,
            f'the objective "{trainer.objective}" does not give probabilities',
            hint=f'Use "{instead}": the trees are the same, and their values are probabilities.',
        )
    whose = {
        "classes": (trainer.classes is not None, family == "multi"),
        "group": (trainer.group is not None, family == "rank"),
        "quantiles": (bool(trainer.quantiles), trainer.objective == "reg:quantileerror"),
        "bounds": (trainer.bounds is not None, trainer.objective == "survival:aft"),
    }
    for field, (is_set, is_needed) in whose.items():
        if is_set and not is_needed:
            raise _refused(trainer, f'the objective "{trainer.objective}" does not use the field "{field}"')
        if is_needed and not is_set:
            raise _refused(trainer, f'the objective "{trainer.objective}" needs the field "{field}"')
    if trainer.class_weights is not None and (family not in ("binary", "multi") or trainer.targets):
        raise _refused(
            trainer, 'the field "class_weights" goes with an objective that has classes, and one target'
        )
    if trainer.targets and family in ("rank", "multi", "survival"):
        raise _refused(trainer, f'the objective "{trainer.objective}" has one target, not several')
    if list(trainer.quantiles) != sorted(set(trainer.quantiles)):
        raise _refused(trainer, "quantiles are not in rising order", expected="such as (0.1, 0.5, 0.9)")
    if trainer.objective == "survival:cox" and trainer.workers > 1:
        raise _refused(
            trainer,
            '"survival:cox" compares each row with all others, which ranks do not have',
            hint='Use workers=1, or "survival:aft".',
        )


def _train_on_four_rows(trainer: XGBoost, features: Sequence[str]) -> tuple[xgboost.Booster, xgboost.DMatrix]:
    settings = parameters(trainer, features, threads=1) | {"device": "cpu"}
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rows = _four_rows(trainer, features)
            booster = xgboost.Booster(settings, [rows])
            booster.update(rows, 0)
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise _refused(trainer, f"the settings are refused: {reason(error)}") from None
    unused = [text for one in said if "are not used" in (text := str(one.message))]
    if unused:
        names = unused[0].partition("{")[2].partition("}")[0].replace('"', "").strip()
        raise _refused(trainer, f'XGBoost does not use the parameter "{names}"')
    return booster, rows


def _four_rows(trainer: XGBoost, features: Sequence[str]) -> xgboost.DMatrix:
    values = np.arange(4.0 * len(features)).reshape(4, -1)
    label = np.array(_LABELS.get(trainer.objective, (0.0, 1.0, 0.0, 1.0)))
    more: dict[str, Any] = {}
    if trainer.targets:
        label = np.column_stack([label] * (1 + len(trainer.targets)))
    if trainer.group is not None:
        more["group"] = np.array([2, 2])
    if trainer.bounds is not None:
        more |= {
            "label_lower_bound": np.arange(1.0, 5.0),
            "label_upper_bound": np.array([1.0, 3.0, np.inf, 4.0]),
        }
    return xgboost.QuantileDMatrix(
        values, label, feature_names=list(features), max_bin=trainer.max_bin, nthread=1, **more
    )


def _monotone(trainer: XGBoost, features: Sequence[str]) -> str:
    for name in trainer.monotone:
        if name not in features:
            raise _refused(
                trainer, f'monotone names "{name}", which is no feature', hint=nearest(name, features)
            )
    return "(" + ",".join(str(trainer.monotone.get(name, 0)) for name in features) + ")"


def _refused(trainer: XGBoost, what: str, **more: str) -> TrainError:
    return TrainError(what, object="XGBoost", place=trainer.place, **more)
