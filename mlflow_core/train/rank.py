"""What one rank does: read its own rows, bin them, boost, and write the booster if it is the first.

It runs in this process or on a Dask worker, alone or under XGBoost's communicator; the code is the same. It is
told which pieces are its own and never sees others. The bins are those of ``xgboost.QuantileDMatrix``, which
takes the rows batch by batch, so the float32 matrix of all rows never has to exist at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from xgboost.collective import CommunicatorContext

from mlflow_core.errors import TrainError
from mlflow_core.train.data import Piece, read_piece
from mlflow_core.train.preprocess import Preprocessing, as_floats

__all__ = ["RankResult", "RankTask", "reason", "train_rank"]

_KEPT_BYTES = 512 * 1024**2

Told = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class RankTask:
    """The work of one rank.

    Args:
        settings: XGBoost's parameters.
        rounds: At most so many trees.
        early_stopping: Stop after so many rounds without a better validation metric; 0 never.
        train: The rank's own training rows.
        validate: The rank's own validation rows.
        preprocessing: How columns become numbers; the same object on all ranks, so is its dictionary.
        label: The label's column.
        rank: Which rank this is, from 0.
        booster: Where rank 0 writes the booster, on storage that the caller can read.
    """

    settings: Mapping[str, Any]
    rounds: int
    early_stopping: int
    train: tuple[Piece, ...]
    validate: tuple[Piece, ...]
    preprocessing: Preprocessing
    label: str
    rank: int
    booster: Path


@dataclass(frozen=True)
class RankResult:
    """What a rank has to tell.

    Args:
        rounds: Trees in the booster.
        history: Validation metric by name, one value per round that was tried.
        rows: Training rows that this rank read.
    """

    rounds: int
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rows: int = 0


def train_rank(task: RankTask, communicator: Mapping[str, Any] | None, told: Told) -> RankResult:
    """Train as one rank, alone or together with the others of the communicator.

    Args:
        task: The rank's work.
        communicator: XGBoost's arguments of the communicator; None for a rank alone.
        told: Called after each round with its index and the validation metrics.

    Raises:
        TrainError: XGBoost refuses; carries its reason.
    """
    together: AbstractContextManager[Any] = (
        CommunicatorContext(**communicator, dmlc_task_id=f"rank-{task.rank:05d}")
        if communicator
        else nullcontext()
    )
    try:
        with together:
            return _train(task, told)
    except xgboost.core.XGBoostError as error:
        raise TrainError(f"XGBoost: {reason(error)}", object=f"rank {task.rank}") from None


def reason(error: Exception) -> str:
    """The sentence of an XGBoost error, without its source lines and stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept: list[str] = []
    for line in lines:
        if line.startswith("Stack trace"):
            break
        kept.append(line.partition("] ")[2] if line.startswith("[") else line)
    said = [line.rpartition(".cc:")[2].partition(": ")[2] if ".cc:" in line else line for line in kept]
    return " ".join(line for line in said if line)[:400] or "no reason given"


def _train(task: RankTask, told: Told) -> RankResult:
    threads, bins = task.settings["nthread"], task.settings["max_bin"]
    train = xgboost.QuantileDMatrix(
        _Batches(task, task.train), max_bin=bins, nthread=threads, enable_categorical=True
    )
    validate = xgboost.QuantileDMatrix(
        _Batches(task, task.validate), max_bin=bins, nthread=threads, ref=train, enable_categorical=True
    )
    callbacks: list[xgboost.callback.TrainingCallback] = [_Tell(told)]
    if task.early_stopping:
        callbacks.append(xgboost.callback.EarlyStopping(rounds=task.early_stopping, save_best=True))
    log: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        dict(task.settings),
        train,
        num_boost_round=task.rounds,
        evals=[(validate, "validate")],
        evals_result=log,
        callbacks=callbacks,
        verbose_eval=False,
    )
    if task.rank == 0:
        # Written aside and renamed, so that a reader never sees half a booster.
        aside = task.booster.with_suffix(".part.ubj")
        booster.save_model(aside)
        os.replace(aside, task.booster)  # noqa: PTH105 the atomic one
    history = {metric: tuple(float(v) for v in values) for metric, values in log["validate"].items()}
    return RankResult(booster.num_boosted_rounds(), history, train.num_row())


class _Batches(xgboost.DataIter):
    """Pieces one by one as float32 matrices, which XGBoost asks for several times over.

    Small parts are kept after the first time; of large ones only as much as fits a budget, the rest is read anew.
    """

    def __init__(self, task: RankTask, pieces: tuple[Piece, ...]) -> None:
        self._task, self._pieces, self._at = task, pieces, 0
        self._kept: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._room = _KEPT_BYTES
        super().__init__(release_data=True)

    def next(self, input_data: Callable[..., Any]) -> bool:
        if self._at == len(self._pieces):
            return False
        matrix, label = self._batch(self._at)
        self._at += 1
        preprocessing = self._task.preprocessing
        input_data(
            data=matrix,
            label=label,
            feature_names=list(preprocessing.names),
            feature_types=preprocessing.xgboost_types,
        )
        return True

    def reset(self) -> None:
        self._at = 0

    def _batch(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if index in self._kept:
            return self._kept[index]
        label = self._task.label
        table = read_piece(self._pieces[index], [label, *self._task.preprocessing.names])
        batch = self._task.preprocessing.matrix(table), as_floats(table.column(label)).astype(np.float32)
        if batch[0].nbytes <= self._room:
            self._room -= batch[0].nbytes
            self._kept[index] = batch
        return batch


class _Tell(xgboost.callback.TrainingCallback):
    def __init__(self, told: Told) -> None:
        self._told = told

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 XGBoost's own
        self._told(epoch, {metric: float(values[-1]) for metric, values in evals_log["validate"].items()})
        return False
