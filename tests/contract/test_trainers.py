"""What every trainer promises: fit, predict, save, load, export, the same bytes for the same seed; bad input by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from mlflow_core.errors import TrainError
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.loading import load_scorer
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.onnx.export import export_onnx
from mlflow_core.train.models.onnx.scorer import OnnxScorer
from mlflow_core.train.models.scorer import Scorer
from tests.contract.trainer_cases import CASES, LABELLED, Case, fitted, rows_of, truth_of
from tests.train.made import FEATURES, write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    folder = tmp_path_factory.mktemp("data")
    train_part = [rows_of(1500, 1), rows_of(1000, 2)]
    return write(folder, {"train": train_part, "validate": [rows_of(600, 3)], "test": [rows_of(900, 4)]})


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case: Case, data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fitted(case, data, tmp_path_factory.mktemp("work"))


def test_a_model_says_what_it_is(case: Case, model: Model) -> None:
    assert isinstance(model.scorer, Scorer)
    assert (model.kind, model.task) == (case.trainer.kind, case.task)
    assert len(model.outputs) == case.outputs
    assert len(set(model.outputs)) == case.outputs
    assert model.features == ("delay", "gust", "late", "carrier", "hour")
    assert model.request == ("carrier", "hour")
    assert model.metadata["trainer"] == case.trainer.model_dump(mode="json")
    assert set(model.scorer.importance()) <= set(model.preprocessing.columns)


def test_it_predicts_float64_of_the_promised_shape_and_range(
    case: Case, model: Model, data: TrainingData
) -> None:
    rows = data.read("test")

    found = model.predict(rows)

    assert found.dtype == np.float64
    assert found.shape == ((900, case.outputs) if case.outputs else (900,))
    assert np.isfinite(found).all()
    assert model.predict(rows.slice(0, 0)).shape == found[:0].shape
    if case.task in ("classification", "multiclass"):
        assert ((found >= 0) & (found <= 1)).all()
    if case.task == "multiclass":
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)


def test_it_has_learned_something(case: Case, model: Model, data: TrainingData) -> None:
    test = data.read("test")
    found, truth = model.predict(test), truth_of(case, test)

    match case.task:
        case "classification":
            assert roc_auc_score(truth, found) > 0.65
        case "multiclass":
            assert (found.argmax(axis=1) == truth).mean() > 0.6
        case "regression":
            first = found[:, 0] if case.outputs else found
            assert np.corrcoef(first, truth)[0, 1] > 0.8
        case "quantile":
            shares = (truth[:, None] <= found).mean(axis=0)
            assert (np.diff(shares) > 0.1).all()
        case "ranking":
            assert np.corrcoef(found, truth)[0, 1] > 0.6
        case "survival":
            # Of proportional hazards the greater value dies sooner; of accelerated failure it is the time itself.
            sign = -1.0 if case.label == "signed" else 1.0
            assert sign * np.corrcoef(np.log(found), np.log(np.abs(truth)))[0, 1] > 0.7
        case "anomaly":
            assert found[truth > 35].mean() > found[truth < 10].mean()


def test_a_request_of_python_values_and_one_row_score_as_the_table_does(
    model: Model, data: TrainingData
) -> None:
    rows = data.read("test").slice(0, 64)
    columns = {name: rows[name].to_pylist() for name in model.features}

    found = model.predict(rows)

    np.testing.assert_array_equal(model.predict_columns(columns), found)
    for row in (0, 63):
        one = {name: values[row : row + 1] for name, values in columns.items()}
        np.testing.assert_allclose(model.predict_columns(one)[0], found[row], atol=1e-6 * np.abs(found).max())


def test_a_row_of_which_nothing_is_known_is_predicted(model: Model) -> None:
    unknown = {name: [None] for name in model.features}

    assert np.isfinite(model.predict_columns(unknown)).all()
    np.testing.assert_array_equal(
        model.predict_columns({**unknown, "carrier": ["ZZ"]}), model.predict_columns(unknown)
    )


def test_a_saved_model_is_loaded_as_it_was(model: Model, data: TrainingData, tmp_path: Path) -> None:
    rows = data.read("test")

    again = Model.load(model.save(tmp_path / "model"))

    assert again == model
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    again.save(tmp_path / "again")
    for path in (tmp_path / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_same_seed_gives_the_same_bytes(
    case: Case, model: Model, data: TrainingData, tmp_path: Path
) -> None:
    again = fitted(case, data, tmp_path / "work")

    assert dict(again.scorer.files()) == dict(model.scorer.files())
    assert again == model


def test_a_damaged_file_is_refused(model: Model, tmp_path: Path) -> None:
    for number, name in enumerate([*model.scorer.files(), "model.json"]):
        folder = model.save(tmp_path / f"model{number}")
        path = folder / name
        content = path.read_bytes()

        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(TrainError, match=f"{name}: the file is not the one that was saved"):
            Model.load(folder)
        path.unlink()
        with pytest.raises(TrainError, match=f"{name}: there is no such file"):
            Model.load(folder)


def test_a_file_that_is_damaged_under_a_fitting_digest_is_refused_too(model: Model, tmp_path: Path) -> None:
    own, place = model.scorer, str(tmp_path)

    for name, content in own.files().items():
        files = {**own.files(), name: content[: len(content) // 2]}
        with pytest.raises(TrainError, match=name.rpartition("-")[2]):
            load_scorer(own.kind, files, own.facts(), model.preprocessing, place=place)
    with pytest.raises(TrainError, match="there is no"):
        load_scorer(own.kind, {}, own.facts(), model.preprocessing, place=place)


def test_it_is_exported_and_predicts_the_same_as_onnx_or_says_that_it_cannot(
    case: Case, model: Model, data: TrainingData, tmp_path: Path
) -> None:
    rows = data.read("test")
    if not case.exports:
        with pytest.raises(
            TrainError, match=f'kind "{model.kind}" cannot be written as ONNX. Use the native'
        ):
            export_onnx(model, tmp_path / "onnx", rows)
        assert list(tmp_path.iterdir()) == []
        return

    exported = export_onnx(model, tmp_path / "onnx", rows)

    assert (exported.rows, exported.greatest_relative <= 1e-5) == (900, True)
    again = OnnxScorer.load(tmp_path / "onnx")
    assert again.outputs == model.outputs
    np.testing.assert_allclose(
        again.predict(rows), model.predict(rows), atol=1e-5 * np.abs(model.predict(rows)).max()
    )


def test_rows_that_it_cannot_read_are_refused_by_name(model: Model, data: TrainingData) -> None:
    rows = data.read("test").slice(0, 20)
    words = rows.set_column(rows.column_names.index("gust"), "gust", pa.array(["much"] * 20))

    with pytest.raises(TrainError, match='the model needs the column "gust"'):
        model.predict(rows.drop_columns(["gust"]))
    with pytest.raises(
        TrainError, match='feature "gust" is of type string, but the model was trained on float'
    ):
        model.predict(words)
    with pytest.raises(TrainError, match='feature "gust" is of type str'):
        model.predict_columns({name: words[name].to_pylist() for name in model.features})


def test_what_tells_nothing_does_no_harm(case: Case, tmp_path: Path) -> None:
    def with_flat(rows: pa.Table, value: float) -> pa.Table:
        return rows.append_column("flat", pa.array(np.full(len(rows), value)))

    def with_unseen(rows: pa.Table) -> pa.Table:
        carriers = ["ZZ" if n % 5 == 0 else one for n, one in enumerate(rows["carrier"].to_pylist())]
        return rows.set_column(rows.column_names.index("carrier"), "carrier", pa.array(carriers))

    seen, empty = with_flat(rows_of(1200, 5), 3.0), with_flat(rows_of(0, 6), 3.0)
    later = [with_flat(with_unseen(rows_of(600, seed)), 4.0) for seed in (7, 8)]
    parts = {"train": [empty, seen, empty], "validate": [empty, later[0]], "test": [later[1]]}
    data = write(tmp_path / "data", parts, features=(*FEATURES, "flat"))

    model = fitted(case, data, tmp_path / "work")

    assert any('"flat" has one value' in note for note in model.notes)
    unknown = [None if one == "ZZ" else one for one in later[1]["carrier"].to_pylist()]
    nulls = later[1].set_column(later[1].column_names.index("carrier"), "carrier", pa.array(unknown))
    assert np.isfinite(model.predict(later[1])).all()
    np.testing.assert_array_equal(model.predict(later[1]), model.predict(nulls))


@pytest.mark.parametrize("name", CASES)
def test_a_training_set_that_is_not_there_is_refused(name: str, data: TrainingData, tmp_path: Path) -> None:
    case = CASES[name]
    none = write(tmp_path / "none", {part: [rows_of(0, 1)] for part in ("train", "validate", "test")})
    lacking = write(
        tmp_path / "lacking", {part: [rows_of(50, 1)] for part in data.shards}, features=(*FEATURES, "gusts")
    )

    with pytest.raises(TrainError, match=r'the part "train" .*has no rows'):
        fitted(case, none, tmp_path / "work")
    with pytest.raises(TrainError, match=r'there is no column "gusts" in the shard\. Did you mean "gust"'):
        fitted(case, lacking, tmp_path / "work")


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_that_is_missing_somewhere_or_no_number_is_refused_by_name(name: str, tmp_path: Path) -> None:
    case, good = CASES[name], rows_of(200, 1)
    place = good.column_names.index(case.label)
    missing = pa.array([None, *good[case.label].to_pylist()[1:]])

    for number, (bad, said) in enumerate(
        [
            (missing, f'label "{case.label}" in the part "train" .* is null or NaN 1 times'),
            (pa.array(["late"] * 200), f'label "{case.label}" is of type string'),
        ]
    ):
        parts = {"train": [good.set_column(place, case.label, bad)], "validate": [good], "test": [good]}
        data = write(tmp_path / f"data{number}", parts)
        with pytest.raises(TrainError, match=said):
            fitted(case, data, tmp_path / f"work{number}")


@pytest.mark.parametrize(
    "name", [one for one in LABELLED if CASES[one].task in ("classification", "multiclass")]
)
def test_a_label_of_one_class_is_refused(name: str, tmp_path: Path) -> None:
    case, good = CASES[name], rows_of(200, 1)
    one_class = good.set_column(good.column_names.index(case.label), case.label, pa.array([1] * 200))
    data = write(tmp_path / "data", {"train": [one_class], "validate": [good], "test": [good]})

    with pytest.raises(TrainError, match=f'label "{case.label}"'):
        fitted(case, data, tmp_path / "work")
