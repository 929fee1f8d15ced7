"""From Parquet shards to a model that was measured: trainers, baselines, evaluation, gates, reports.

Knows tables and models, not where features come from. Nothing heavy is imported until it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_core.train.recorder import NullRecorder, Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from mlflow_core.spec.trainer import XGBoost
    from mlflow_core.telemetry.progress import Progress
    from mlflow_core.train.data import TrainingData
    from mlflow_core.train.model import Model

__all__ = ["NullRecorder", "Recorder", "fit"]


def fit(
    trainer: XGBoost,
    data: TrainingData,
    *,
    client: Client | None = None,
    workdir: Path,
    recorder: Recorder | None = None,
    progress: Progress | None = None,
) -> Model:
    """Train a model on a dataset's training part; see ``mlflow_core.train.xgboost.fit``.

    Args:
        trainer: The settings.
        data: The training set.
        client: The cluster; None trains in this process.
        workdir: A folder that the workers can write to.
        recorder: Told the settings and each round's metrics.
        progress: Told of each round.

    Raises:
        TrainError: The settings or the data cannot be trained with, or a worker was lost.
    """
    from mlflow_core.train import xgboost

    return xgboost.fit(trainer, data, client=client, workdir=workdir, recorder=recorder, progress=progress)
