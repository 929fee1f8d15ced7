"""What networks learn: each objective, seen by what its predictions are good for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.spec.network import MLP, Autoencoder, TwoTower
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.evaluation.metrics import measure
from tests.train.made import fit, table, training_set, write

SMALL = MLP(hidden=(32, 32), dropout=0.0, embedding=8)
TRAINER = Torch(module=SMALL, epochs=3, batch_size=128, learning_rate=3e-3, seed=5)


def but(trainer: Torch, **fields: object) -> Torch:
    return Torch.model_validate(trainer.model_dump() | fields)


def test_a_regression_predicts_in_the_label_s_own_units(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data", label="amount", features=("delay", "gust", "hour"))

    model = fit(but(TRAINER, objective="regression", epochs=12), data, workdir=tmp_path / "work")

    validate = data.read("validate")
    y = validate.column("amount").to_numpy()
    assert model.task == "regression"
    error = measure("rmse", y, model.predict(validate))
    assert error**2 == pytest.approx(model.history["loss"][-1], rel=1e-3)
    assert measure("r2", y, model.predict(validate)) > 0.8


def test_quantiles_cover_what_they_promise(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data", label="amount", features=("gust", "hour"))
    trainer = but(TRAINER, objective="quantile", quantiles=(0.1, 0.5, 0.9), epochs=15)

    model = fit(trainer, data, workdir=tmp_path / "work")

    test = data.read("test")
    predicted = model.predict(test)
    below = (test.column("amount").to_numpy()[:, None] < predicted).mean(axis=0)
    assert model.outputs == ("0.1", "0.5", "0.9")
    assert model.task == "quantile"
    np.testing.assert_allclose(below, [0.1, 0.5, 0.9], atol=0.06)


def test_classes_get_probabilities(tmp_path: Path) -> None:
    def third(rows: int, seed: int) -> pa.Table:
        made = table(rows, seed)
        delay = np.nan_to_num(made.column("delay").to_numpy())
        return made.append_column("class", pa.array(np.digitize(delay, [0.0, 20.0])))

    data = write(
        tmp_path / "data",
        {"train": [third(2000, 1)], "validate": [third(500, 2)], "test": [third(500, 3)]},
        label="class",
    )
    trainer = but(TRAINER, objective="multiclass", classes=3, epochs=6)

    model = fit(trainer, data, workdir=tmp_path / "work")

    predicted = model.predict(data.read("test"))
    np.testing.assert_allclose(predicted.sum(axis=1), 1.0, rtol=1e-5)
    right = predicted.argmax(axis=1) == data.read("test").column("class").to_numpy()
    assert model.outputs == ("0", "1", "2")
    assert right.mean() > 0.9


def test_an_autoencoder_needs_no_label_and_finds_what_is_unusual(tmp_path: Path) -> None:
    def linked(rows: int, seed: int) -> pa.Table:
        random = np.random.default_rng(seed)
        hidden = random.normal(size=(rows, 2))
        values = hidden @ np.array([[1.0, 2.0, -1.0, 0.5], [0.5, -1.0, 1.0, 2.0]])
        return pa.table({name: values[:, n] for n, name in enumerate("abcd")})

    parts = {"train": [linked(3000, 1)], "validate": [linked(500, 2)], "test": [linked(500, 3)]}
    data = write(tmp_path / "data", parts, label="", features=tuple("abcd"), request=())
    module = Autoencoder(hidden=(32,), bottleneck=2, dropout=0.0)
    trainer = but(TRAINER, module=module, objective="reconstruction", epochs=15, learning_rate=1e-2)

    model = fit(trainer, data, workdir=tmp_path / "work")

    usual = data.read("test")
    broken = usual.set_column(0, "a", pa.array(-usual.column("a").to_numpy()))
    assert model.task == "anomaly"
    assert np.median(model.predict(broken)) > 5 * np.median(model.predict(usual))


def test_two_towers_find_the_pairs_that_belong_together(tmp_path: Path) -> None:
    def pairs(rows: int, seed: int) -> pa.Table:
        random = np.random.default_rng(seed)
        left = random.normal(size=(rows, 2))
        right = left[:, ::-1] + random.normal(scale=0.1, size=(rows, 2))
        return pa.table({"a": left[:, 0], "b": left[:, 1], "c": right[:, 0], "d": right[:, 1]})

    parts = {"train": [pairs(3000, 1)], "validate": [pairs(500, 2)], "test": [pairs(500, 3)]}
    data = write(tmp_path / "data", parts, label="", features=tuple("abcd"), request=())
    module = TwoTower(left=("a", "b"), right=("c", "d"), hidden=(32,), width=8)
    trainer = but(TRAINER, module=module, objective="retrieval", epochs=8, learning_rate=1e-2)

    model = fit(trainer, data, workdir=tmp_path / "work")

    true = data.read("test")
    order = np.roll(np.arange(500), 1)
    false = true.set_column(2, "c", true.column("c").take(order)).set_column(
        3, "d", true.column("d").take(order)
    )
    assert model.task == "ranking"
    assert (model.predict(true) > model.predict(false)).mean() > 0.9
