"""From Parquet shards to a model that was measured: trainers, baselines, evaluation, gates, reports.

Knows tables and models, not where features come from. Nothing heavy is imported until it is asked for. Threads of the
libraries that are imported then sleep while they wait for each other, unless ``OMP_WAIT_POLICY`` says otherwise.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_core.engine.cluster.environment import WORKER_ENVIRONMENT
from mlflow_core.train.context import TrainContext
from mlflow_core.train.recorder import NullRecorder, Recorder

if TYPE_CHECKING:
    from mlflow_core.spec.trainer import Trainer
    from mlflow_core.train.data.training_set import TrainingData
    from mlflow_core.train.models.model import Model

__all__ = ["NullRecorder", "Recorder", "TrainContext", "fit"]

# As workers have it. OpenMP reads it once, when XGBoost, torch or scikit-learn load it, and no module of this room
# can import one of them before this line.
os.environ.setdefault("OMP_WAIT_POLICY", WORKER_ENVIRONMENT["OMP_WAIT_POLICY"])


def fit(trainer: Trainer, data: TrainingData, context: TrainContext) -> Model:
    """Train on the training part, stop on the validation part; the test part is not opened.

    The same seed, rows, shards and number of workers give the same model, byte for byte, on CPU.

    Args:
        trainer: What to train, with its settings.
        data: The training set.
        context: Where it runs, and whom it tells.

    Returns:
        The model, of the best round or epoch if it stopped early.

    Raises:
        TrainError: The settings or the data cannot be trained with, or more workers were lost than may be.
    """
    match trainer.kind:
        case "xgboost":
            from mlflow_core.train.xgboost import fit as xgboost

            return xgboost.fit(trainer, data, context)
        case "torch":
            from mlflow_core.train.models.extras import check_installed

            check_installed("torch", "the trainer Torch")
            from mlflow_core.train.torch import fit as torch

            return torch.fit(trainer, data, context)
        case "sklearn":
            from mlflow_core.train.sklearn import fit as sklearn

            return sklearn.fit(trainer, data, context)
        case "family":
            from mlflow_core.train.family import fit as family

            return family.fit(trainer, data, context)
