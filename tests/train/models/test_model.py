"""The model: columns in any order, requests, several outputs, its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Sklearn, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.model import Model
from tests.train.made import fit, table, training_set, write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fit(XGBoost(rounds=30, seed=1), data, workdir=tmp_path_factory.mktemp("work"))


def test_columns_come_in_any_order_and_others_are_ignored(model: Model) -> None:
    rows = table(50, 9)

    turned = rows.select(rows.column_names[::-1])

    np.testing.assert_array_equal(model.predict(rows), model.predict(turned))


def test_a_request_of_python_values_scores_as_the_table_does(model: Model) -> None:
    rows = table(200, 9)
    columns = {name: rows.column(name).to_pylist() for name in model.features}

    np.testing.assert_array_equal(model.predict(rows), model.predict_columns(columns))
    one = {name: values[:1] for name, values in columns.items()}
    assert model.predict_columns(one)[0] == model.predict(rows)[0]


def test_many_rows_score_as_one_by_one(model: Model) -> None:
    rows = table(5000, 9)

    np.testing.assert_array_equal(model.predict(rows)[:100], model.predict(rows.slice(0, 100)))


def test_an_unseen_category_is_missing(model: Model) -> None:
    rows = table(20, 9)
    place = rows.column_names.index("carrier")

    unseen = rows.set_column(place, "carrier", pa.array(["ZZ"] * 20))
    missing = rows.set_column(place, "carrier", pa.nulls(20, pa.string()))

    np.testing.assert_array_equal(model.predict(unseen), model.predict(missing))
    assert model.preprocessing.features[3].categories == ("AA", "B6", "DL", "UA")


def test_a_missing_column_or_one_of_another_kind_is_named(model: Model) -> None:
    rows = table(5, 9)

    with pytest.raises(TrainError, match='the model needs the column "gust", which was not given'):
        model.predict(rows.drop_columns(["gust"]))
    with pytest.raises(TrainError, match='the model needs the column "delay"'):
        model.predict_columns({"gust": [1.0]})
    text = rows.set_column(rows.column_names.index("hour"), "hour", pa.array(["a"] * 5))
    with pytest.raises(
        TrainError, match='feature "hour" is of type string, but the model was trained on int64'
    ):
        model.predict(text)


def test_a_saved_model_is_loaded_as_it_was_and_holds_no_pickle(model: Model, tmp_path: Path) -> None:
    folder = model.with_metadata(service="delay_model").save(tmp_path / "model")

    again = Model.load(folder)

    assert sorted(path.name for path in folder.iterdir()) == ["booster.ubj", "manifest.json", "model.json"]
    np.testing.assert_array_equal(again.predict(table(30, 2)), model.predict(table(30, 2)))
    assert again.metadata["service"] == "delay_model"
    assert again.with_metadata() == again
    assert again.request == ("carrier", "hour")


def test_a_damaged_incomplete_or_newer_model_is_refused(model: Model, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "model")
    booster = (folder / "booster.ubj").read_bytes()
    (folder / "booster.ubj").write_bytes(booster[:-5])
    with pytest.raises(TrainError, match=r"booster.ubj: the file is not the one that was saved"):
        Model.load(folder)
    (folder / "booster.ubj").unlink()
    with pytest.raises(TrainError, match="there is no such file, so this is not a model's folder"):
        Model.load(folder)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest | {"schema": 99}))
    with pytest.raises(TrainError, match=r"is of schema 99.*Expected schema 2"):
        Model.load(folder)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of three classes."""

    def winds(rows: int, seed: int) -> pa.Table:
        made = table(rows, seed)
        return made.append_column("wind", pa.array(np.digitize(made["gust"].to_numpy(), [5.0, 10.0])))

    folder = tmp_path_factory.mktemp("three")
    parts = {part: [winds(800, seed)] for seed, part in enumerate(("train", "validate", "test"))}
    data = write(folder / "data", parts, label="wind", features=("delay", "gust", "carrier"))
    trainer = Sklearn(
        estimator="sklearn.ensemble:RandomForestClassifier",
        arguments={"n_estimators": 10},
        objective="multiclass",
    )
    return fit(trainer, data, workdir=folder)


def test_several_outputs_are_a_row_each_and_named(three: Model) -> None:
    rows = table(50, 9)

    found = three.predict(rows)

    assert three.outputs == ("0", "1", "2")
    assert found.shape == (50, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (found.argmax(axis=1) == np.digitize(rows["gust"].to_numpy(), [5.0, 10.0])).mean() > 0.9


def test_several_outputs_are_the_same_of_a_request_and_after_loading(three: Model, tmp_path: Path) -> None:
    rows = table(50, 9)
    columns = {name: rows.column(name).to_pylist() for name in three.features}

    again = Model.load(three.save(tmp_path / "model"))

    assert again.outputs == three.outputs
    np.testing.assert_array_equal(again.predict_columns(columns), three.predict(rows))
    assert again == three


def test_no_rows_give_no_values_of_the_right_shape(model: Model, three: Model) -> None:
    none = table(5, 9).slice(0, 0)

    assert model.predict(none).shape == (0,)
    assert three.predict(none).shape == (0, 3)


def test_outputs_that_the_scorer_does_not_give_are_refused(three: Model) -> None:
    with pytest.raises(TrainError, match="gives 3 values a row, but the model names 2"):
        replace(three, outputs=("calm", "windy")).predict(table(5, 9))
    with pytest.raises(TrainError, match="gives 3 values a row, but the model names none"):
        replace(three, outputs=()).predict(table(5, 9))
