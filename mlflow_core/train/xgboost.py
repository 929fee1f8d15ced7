"""Gradient boosted trees from Parquet shards: settings checked, data summarised, ranks run, a model returned.

Everything that can be refused is refused before a rank starts. What is learned equals plain ``xgboost.train`` on
the same rows with one rank; with several, bin edges and the validation AUC are merged from the ranks' own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train.data import PARTS, TrainingData, share
from mlflow_core.train.model import Model
from mlflow_core.train.preprocess import Preprocessing
from mlflow_core.train.profile import LabelProfile, ShardProfile, check_label, merge, pieces, profile_shard
from mlflow_core.train.recorder import NullRecorder, Recorder

if TYPE_CHECKING:
    from distributed import Client

    from mlflow_core.train.gang import Seat
    from mlflow_core.train.rank import RankResult, RankTask

__all__ = ["check_settings", "fit", "settings_of"]

_OWN = {
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
}


def fit(
    trainer: XGBoost,
    data: TrainingData,
    *,
    client: Client | None = None,
    workdir: Path,
    recorder: Recorder | None = None,
    progress: Progress | None = None,
) -> Model:
    """Train on the training part, stop on the validation part; the test part is not opened.

    The same seed, rows, shards and number of workers give the same booster, byte for byte.

    Args:
        trainer: The settings.
        data: The training set.
        client: The cluster; None trains in this process.
        workdir: A folder that the workers can write to; the booster is left in it.
        recorder: Told the settings, then the validation metrics of each round.
        progress: Told of each round.

    Returns:
        The model, with the booster of the best round if it stopped early.

    Raises:
        TrainError: The settings or the data cannot be trained with, or a worker was lost.
    """
    recorder, progress = recorder or NullRecorder(), progress or SilentProgress()
    check_settings(trainer)
    chosen = _seats(trainer, client)
    profiles = _profile(data, client, progress)
    preprocessing, notes, label = merge(profiles["train"], data.features)
    labels = {"train": label, "validate": merge(profiles["validate"], ())[2]}
    for part, seen in labels.items():
        check_label(part, data.label, seen, binary=trainer.objective.startswith("binary:"))
        _check_rows(part, seen.rows, trainer.workers)
    recorder.params(_facts(trainer, preprocessing, labels, notes))
    workdir.mkdir(parents=True, exist_ok=True)
    tasks = _tasks(trainer, data, profiles, preprocessing, chosen, workdir)
    result = _run(tasks, chosen, client, recorder, progress)
    return Model.of_booster(
        tasks[0].booster,
        preprocessing=preprocessing,
        label=data.label,
        request=data.request,
        objective=trainer.objective,
        history=result.history,
        notes=notes,
        metadata={"trainer": trainer.model_dump(mode="json")},
    )


def settings_of(trainer: XGBoost, *, threads: int) -> dict[str, Any]:
    """XGBoost's own parameters for a trainer.

    Args:
        trainer: The settings.
        threads: Threads of the rank.

    Raises:
        TrainError: ``params`` sets what a field of the trainer sets.
    """
    for name in trainer.params:
        if name in _OWN:
            raise TrainError(
                f'params sets "{name}", which is the field "{_OWN[name]}"',
                object="XGBoost",
                place=trainer.place,
                hint=f"Write XGBoost({_OWN[name]}=...).",
            )
    own: dict[str, Any] = {
        "objective": trainer.objective,
        "tree_method": "hist",
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
    return own | trainer.params


def check_settings(trainer: XGBoost) -> None:
    """Train one round on four rows, so that a wrong setting is told before any data is read.

    Raises:
        TrainError: XGBoost does not know the objective, metric or a parameter, or the objective gives several
            values per row.
    """
    import xgboost

    from mlflow_core.train.rank import reason

    settings = settings_of(trainer, threads=1)
    rows = xgboost.DMatrix(np.arange(4.0).reshape(4, 1), label=np.array([0.0, 1.0, 0.0, 1.0]))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            booster = xgboost.train(
                settings, rows, num_boost_round=1, evals=[(rows, "validate")], verbose_eval=False
            )
            shape = booster.predict(rows).shape
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise TrainError(
            f"the settings are refused: {reason(error)}", object="XGBoost", place=trainer.place
        ) from None
    unused = [text for one in said if "are not used" in (text := str(one.message))]
    if unused:
        names = unused[0].partition("{")[2].partition("}")[0].replace('"', "").strip()
        raise TrainError(
            f'XGBoost does not use the parameter "{names}"', object="XGBoost", place=trainer.place
        )
    if len(shape) != 1:
        raise TrainError(
            f'the objective "{trainer.objective}" gives {shape[1]} values per row',
            object="XGBoost",
            place=trainer.place,
            expected="an objective with one value per row",
        )


def _seats(trainer: XGBoost, client: Client | None) -> tuple[Seat, ...]:
    from mlflow_core.train.gang import Seat, seats

    if client is not None:
        return seats(client, trainer.workers)
    if trainer.workers > 1:
        raise TrainError(
            f"{trainer.workers} workers were asked for, but there is no cluster",
            object="XGBoost",
            place=trainer.place,
            hint="Use workers=1, which takes all threads of this machine, or start a cluster.",
        )
    return (Seat("here", len(os.sched_getaffinity(0))),)


def _profile(
    data: TrainingData, client: Client | None, progress: Progress
) -> dict[str, tuple[ShardProfile, ...]]:
    from mlflow_core.train.gang import map_on_workers

    parts = [(part, path) for part in PARTS[:2] for path in data.files(part)]
    arguments = [(path, data.label, data.features, part == "train") for part, path in parts]
    with progress.stage("looking at the training set", len(parts), "shards") as stage:
        if client is not None:
            found = map_on_workers(client, _profile_shard, arguments)
            stage.advance(len(parts))
        else:
            found = []
            for one in arguments:
                found.append(_profile_shard(*one))
                stage.advance()
    return {
        part: tuple(profile for (of, _), profile in zip(parts, found, strict=True) if of == part)
        for part in PARTS[:2]
    }


def _profile_shard(path: Path, label: str, features: tuple[str, ...], with_features: bool) -> ShardProfile:
    return profile_shard(path, label, features, with_features=with_features)


def _check_rows(part: str, rows: int, workers: int) -> None:
    if rows < workers:
        raise TrainError(
            f'the part "{part}" has {rows} rows for {workers} workers',
            expected="at least one row per worker",
            hint="Use fewer workers.",
        )


def _facts(
    trainer: XGBoost, preprocessing: Preprocessing, labels: Mapping[str, LabelProfile], notes: tuple[str, ...]
) -> dict[str, Any]:
    facts = {f"trainer.{name}": value for name, value in trainer.model_dump(mode="json").items()}
    for part, label in labels.items():
        facts[f"rows.{part}"] = label.rows
        if trainer.objective.startswith("binary:"):
            facts[f"positives.{part}"] = label.ones
    kinds = [feature.kind for feature in preprocessing.features]
    facts |= {f"features.{kind}": kinds.count(kind) for kind in ("number", "bool", "category")}
    return facts | ({"notes": list(notes)} if notes else {})


def _tasks(
    trainer: XGBoost,
    data: TrainingData,
    profiles: Mapping[str, tuple[ShardProfile, ...]],
    preprocessing: Preprocessing,
    chosen: tuple[Seat, ...],
    workdir: Path,
) -> list[RankTask]:
    from mlflow_core.train.rank import RankTask

    train, validate = (share(pieces(profiles[part]), len(chosen)) for part in PARTS[:2])
    return [
        RankTask(
            settings=settings_of(trainer, threads=seat.threads),
            rounds=trainer.rounds,
            early_stopping=trainer.early_stopping,
            train=train[rank],
            validate=validate[rank],
            preprocessing=preprocessing,
            label=data.label,
            rank=rank,
            booster=workdir / "booster.ubj",
        )
        for rank, seat in enumerate(chosen)
    ]


def _run(
    tasks: list[RankTask],
    chosen: tuple[Seat, ...],
    client: Client | None,
    recorder: Recorder,
    progress: Progress,
) -> RankResult:
    from mlflow_core.train.gang import run_gang
    from mlflow_core.train.rank import train_rank

    heard = 0
    with progress.stage("training XGBoost", tasks[0].rounds, "rounds") as stage:

        def told(round_: int, metrics: Mapping[str, float]) -> None:
            nonlocal heard
            if round_ < heard:
                return
            recorder.metrics({f"validate_{name}": value for name, value in metrics.items()}, step=round_)
            stage.advance(round_ + 1 - heard)
            heard = round_ + 1

        if client is None:
            return train_rank(tasks[0], None, told)
        result = run_gang(client, tasks, chosen, told=told)[0]
        # Events may arrive after the ranks' end; the history says the rest.
        for round_ in range(heard, max((len(values) for values in result.history.values()), default=0)):
            told(round_, {metric: values[round_] for metric, values in result.history.items()})
        return result
