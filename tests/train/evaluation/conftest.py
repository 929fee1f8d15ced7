"""A small training set and a model of trees on it, made once."""

from __future__ import annotations

import pytest

from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.model import Model
from tests.train.made import fit, training_set


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def model(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fit(XGBoost(rounds=30, seed=1), data, workdir=tmp_path_factory.mktemp("work"))
