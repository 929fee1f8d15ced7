"""Boosting in segments of so many rounds, each with a seed of its own, so that it can go on as if nothing had happened.

XGBoost draws rows and columns from generators whose state cannot be kept. So each segment begins with new ones, seeded
with the trainer's seed plus the segment's number, whether the training was disturbed or not: what was learned from a
checkpoint equals to the bit what is learned without one. Whether to stop early is worked out from the metric's values
alone, which are in the checkpoint too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xgboost

from mlflow_core.errors import TrainError
from mlflow_core.train.xgboost.direction import is_maximised

__all__ = ["Boosted", "Plan", "State", "best_round", "boost", "is_over"]

History = dict[str, list[float]]


@dataclass(frozen=True)
class State:
    """How far a training has come: what a checkpoint keeps.

    Args:
        rounds: Rounds that are done.
        booster: The trees so far, as UBJ; None before the first.
        history: The validation metric by name, one value for each round.
    """

    rounds: int = 0
    booster: bytes | None = field(default=None, repr=False)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Args:
        settings: XGBoost's parameters; their seed is the first segment's.
        rounds: At most so many.
        every: Rounds of a segment.
        early_stopping: End after so many rounds without a better metric; 0 never.
    """

    settings: Mapping[str, Any]
    rounds: int
    every: int
    early_stopping: int = 0


@dataclass(frozen=True)
class Boosted:
    """What came of it.

    Args:
        state: The end, with the trees of all rounds that are to be kept.
        best: The round whose trees are the last to be kept, from 0.
    """

    state: State
    best: int


def boost(
    plan: Plan,
    train: xgboost.DMatrix,
    validate: xgboost.DMatrix,
    start: State,
    *,
    after_round: Callable[[int, Mapping[str, float]], None],
    after_segment: Callable[[State], None],
) -> Boosted:
    """Boost to the end, from the beginning or from a state that ``after_segment`` was given.

    Args:
        plan: What is to be done.
        train: Training rows.
        validate: Validation rows.
        start: Where to begin.
        after_round: Called after each round with its number, from 0, and its metrics; may raise to end it.
        after_segment: Called after each segment but the last with all that is needed to go on.

    Returns:
        The trees of the best round and those before it if it may stop early, else all.

    Raises:
        TrainError: A metric is not a finite number.
        xgboost.core.XGBoostError: XGBoost refuses, or cannot reach the other ranks.
    """
    history: History = {name: list(values) for name, values in start.history.items()}
    at, booster = start.rounds, None
    while at < plan.rounds and not is_over(history, plan.early_stopping):
        segment = at // plan.every
        booster = _begin(plan, segment, booster, start, [train, validate])
        for round_ in range(at, min((segment + 1) * plan.every, plan.rounds)):
            booster.update(train, round_)
            metrics = _metrics(booster.eval_set([(validate, "validate")], round_), round_)
            for name, value in metrics.items():
                history.setdefault(name, []).append(value)
            after_round(round_, metrics)
            at = round_ + 1
            if is_over(history, plan.early_stopping):
                break
        else:
            if at < plan.rounds:
                after_segment(State(at, bytes(booster.save_raw("ubj")), _copy(history)))
    if booster is None:  # it had come to its end before
        booster = xgboost.Booster(dict(plan.settings), model_file=bytearray(start.booster or b""))
    best = best_round(history) if plan.early_stopping else at - 1
    kept = booster[: best + 1] if best + 1 < at else booster
    return Boosted(State(at, bytes(kept.save_raw("ubj")), _copy(history)), best)


def best_round(history: Mapping[str, Sequence[float]]) -> int:
    """The first round with the best value of the last metric, which is the one that XGBoost too would watch."""
    name, values = list(history.items())[-1]
    wanted = max(values) if is_maximised(name) else min(values)
    return list(values).index(wanted)


def is_over(history: Mapping[str, Sequence[float]], early_stopping: int) -> bool:
    """Whether so many rounds have passed without a better value.

    Args:
        history: The metrics so far.
        early_stopping: How many; 0 never ends.
    """
    if not early_stopping or not history:
        return False
    rounds = len(list(history.values())[-1])
    return rounds - 1 - best_round(history) >= early_stopping


def _begin(
    plan: Plan, segment: int, booster: xgboost.Booster | None, start: State, rows: list[xgboost.DMatrix]
) -> xgboost.Booster:
    seed = {"seed": int(plan.settings["seed"]) + segment}
    if booster is None:
        model = None if start.booster is None else bytearray(start.booster)
        return xgboost.Booster({**plan.settings, **seed}, rows, model_file=model)
    # Reading its own configuration makes the tree updaters, with their generators, anew, as loading a model does;
    # but the predictions of the rounds so far are kept, which cost more with every segment.
    booster.load_config(booster.save_config())
    booster.set_param(seed)
    return booster


def _metrics(line: str, round_: int) -> dict[str, float]:
    """Read XGBoost's own line, e.g. ``[0]	validate-auc:0.71``."""
    metrics = {}
    for part in line.split()[1:]:
        name, _, value = part.partition("-")[2].rpartition(":")
        metrics[name] = float(value)
        if not math.isfinite(metrics[name]):
            raise TrainError(
                f'the metric "{name}" of the validation rows is {value} after round {round_}',
                object="XGBoost",
                hint="Look at the label's range, lower the learning rate, or name another metric. "
                "What was learned before is in the last checkpoint.",
            )
    return metrics


def _copy(history: History) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in history.items()}
