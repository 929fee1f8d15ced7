"""One trial: a training, or one a fold, with the settings that were proposed, and the figure that judges them.

It runs on a worker, or here, as a program of the pool. What it tells are values after the steps that are looked at;
its outcome holds them all again, because events may be late or lost, and results are not.
"""

from __future__ import annotations

import math
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_core import train
from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Family, Trainer
from mlflow_core.train.context import TrainContext
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.model import Model
from mlflow_core.train.pool import Slot, Stopped
from mlflow_core.train.search.judging import Judge, measured, told_value

__all__ = ["TRIALS", "Outcome", "TrialProgram", "with_one_rank"]

TRIALS = "trials"
"""Where in the folder of the search trials work."""


def with_one_rank(trainer: Trainer) -> Trainer:
    """A trainer as trials train with it: how many ranks the trainer itself has changes no trial.

    Example:
        >>> from mlflow_core.spec import XGBoost
        >>> with_one_rank(XGBoost(workers=4)) == XGBoost()
        True
    """
    if isinstance(trainer, Family):
        return trainer.model_copy(update={"trainer": with_one_rank(trainer.trainer)})
    return trainer.model_copy(update={"workers": 1}) if trainer.workers != 1 else trainer


@dataclass(frozen=True)
class Outcome:
    """What a trial found.

    Args:
        value: The figure that judges it.
        values: The same, or what stands for it, after each step that was looked at.
        facts: Numbers that conditions and readers ask for: ``seconds``, ``steps``, metrics.
    """

    value: float
    values: Mapping[int, float]
    facts: Mapping[str, float]


@dataclass(frozen=True)
class TrialProgram:
    """A trial as a program.

    Args:
        trainer: The trainer with the trial's settings.
        folds: What it trains on: the training set, or its folds.
        judge: What decides.
        also: Metrics that conditions ask for.
        looks: After which steps it tells its value.
        workdir: Where each run of it makes a folder of its own, which is gone afterwards.
        cache: Where matrices are kept, shared by all trials.
    """

    trainer: Trainer
    folds: tuple[TrainingData, ...]
    judge: Judge
    also: tuple[str, ...]
    looks: frozenset[int]
    workdir: Path
    cache: Path

    def __call__(self, slot: Slot) -> Outcome:
        """Train and judge.

        Raises:
            TrainError: The settings or the data cannot be trained with, or the figure is not a number.
            Stopped: The caller wants it no more.
        """
        # Made here: where it is started again, the first may still be ending on a worker that seems lost.
        folder = self.workdir / uuid.uuid4().hex
        try:
            return self._outcome(slot, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _outcome(self, slot: Slot, folder: Path) -> Outcome:
        began, folded = time.monotonic(), len(self.folds) > 1
        seen = _Looking(slot, self.judge, frozenset() if folded else self.looks)
        found: list[Mapping[str, float]] = []
        for number, data in enumerate(self.folds):
            try:
                found.append(self._one(slot, seen, folder / f"fold-{number}", data))
            except TrainError as error:
                raise _in_fold(error, number + 1) if folded else error from None
            if folded and number + 1 in self.looks:
                seen.look(number + 1, _mean(found)["value"])
        facts = _mean(found)
        value = facts.pop("value")
        if not math.isfinite(value):
            raise TrainError(f'the metric "{self.judge.name}" is {value}')
        return Outcome(value, seen.values, {**facts, "seconds": time.monotonic() - began})

    def _one(self, slot: Slot, seen: _Looking, folder: Path, data: TrainingData) -> Mapping[str, float]:
        context = TrainContext(
            workdir=folder,
            recorder=seen,
            cache=self.cache,
            threads=slot.threads,
        )
        model = train.fit(self.trainer, data, context)
        return {"steps": _steps(model), **measured(self.judge, model, data, self.trainer, self.also)}


@dataclass
class _Looking:
    """The recorder of a trial: passes on the values of the steps that are looked at, and ends what is not wanted."""

    slot: Slot
    judge: Judge
    looks: frozenset[int]
    values: dict[int, float] = field(default_factory=dict)

    def params(self, params: Mapping[str, Any]) -> None:
        """The caller knows the settings; the rest is the same for all trials."""

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Hear of a round or an epoch."""
        if self.slot.stopped():
            raise Stopped
        if step is None or step + 1 not in self.looks or step + 1 in self.values:
            return
        value = told_value(metrics, None if self.judge.ours else self.judge.name)
        if value is not None:
            self.look(step + 1, value if self.judge.own_greater == self.judge.greater else -value)

    def artifact(self, name: str, path: Path) -> None:
        """A trial leaves nothing but figures."""

    def look(self, step: int, value: float) -> None:
        """Tell a value, and end if that was not good enough."""
        self.values[step] = value
        self.slot.tell([step, value])
        if self.slot.stopped():
            raise Stopped


def _mean(found: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _steps(model: Model) -> float:
    if model.best is not None:
        return float(model.best + 1)
    return float(max((len(values) for values in model.history.values()), default=0))


def _in_fold(error: TrainError, fold: int) -> TrainError:
    return TrainError(
        f"fold {fold}: {error.what}",
        object=error.object,
        place=error.place,
        expected=error.expected,
        hint=error.hint,
    )
