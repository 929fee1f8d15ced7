"""The model: its dictionary, columns in any order, its folder; baselines; the report as one file."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.spec.pipeline import Gate
from mlflow_core.spec.trainer import LogisticRegression, Rate, XGBoost
from mlflow_core.train import fit
from mlflow_core.train.baselines import fit_baseline
from mlflow_core.train.curves import importance
from mlflow_core.train.data import TrainingData
from mlflow_core.train.evaluate import evaluate
from mlflow_core.train.gate import judge
from mlflow_core.train.metrics import measure
from mlflow_core.train.model import Model
from mlflow_core.train.preprocess import kind_of
from mlflow_core.train.report import PartFacts, Report, write_report
from tests.train.made import table, training_set, write


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


def test_the_dictionary_knows_the_training_part_only_and_the_order_of_shards_does_not_matter(
    tmp_path: Path,
) -> None:
    def only(carriers: list[str], seed: int) -> pa.Table:
        made = table(300, seed)
        return made.set_column(4, "carrier", pa.array([carriers[n % len(carriers)] for n in range(300)]))

    data = write(
        tmp_path / "a",
        {
            "train": [only(["UA"], 1), only(["B6", "AA"], 2)],
            "validate": [only(["ZZ"], 3)],
            "test": [only(["UA"], 4)],
        },
    )

    model = fit(XGBoost(rounds=5), data, workdir=tmp_path / "work")

    assert model.preprocessing.features[3].categories == ("AA", "B6", "UA")


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


@pytest.mark.parametrize(
    ("type_", "hint"),
    [
        (pa.timestamp("us", "UTC"), r"ml\.hour"),
        (pa.date32(), r"ml\.hour"),
        (pa.list_(pa.string()), "an aggregate with one value"),
        (pa.struct({"a": pa.int64()}), "Leave it out of the feature service"),
    ],
)
def test_a_type_that_no_tree_reads_is_refused_with_the_way_out(type_: pa.DataType, hint: str) -> None:
    with pytest.raises(TrainError, match=f'feature "dests" is of type .*{hint}'):
        kind_of("dests", type_)


def test_a_list_feature_is_refused_in_training(tmp_path: Path) -> None:
    parts = {
        p: [table(50, n).append_column("last", pa.array([["a"]] * 50))]
        for n, p in enumerate(("train", "validate", "test"))
    }

    with pytest.raises(TrainError, match='feature "last" is of type list'):
        fit(XGBoost(), write(tmp_path / "d", parts, features=("last",)), workdir=tmp_path / "w")


def test_numbers_of_every_arrow_type_are_read_and_infinities_are_clipped(tmp_path: Path) -> None:
    def odd(rows: int, seed: int) -> pa.Table:
        made = table(rows, seed)
        made = made.append_column("dec", pa.array([Decimal(n % 7) for n in range(rows)], pa.decimal128(9, 2)))
        made = made.append_column("dict", made.column("carrier").combine_chunks().dictionary_encode())
        return made.append_column(
            "huge", pa.array([np.inf if n % 5 == 0 else 1e300 * (n % 2) for n in range(rows)])
        )

    parts = {p: [odd(200, n)] for n, p in enumerate(("train", "validate", "test"))}
    data = write(tmp_path / "d", parts, features=("dec", "dict", "huge", "late"))

    model = fit(XGBoost(rounds=4), data, workdir=tmp_path / "w")

    assert np.isfinite(model.predict(data.read("test"))).all()
    assert model.notes == ('feature "huge" is infinite in 40 training rows',)


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
    with pytest.raises(TrainError, match=r"is of schema 99.*Expected schema 1"):
        Model.load(folder)


def test_gain_adds_up_and_permutation_finds_what_matters(model: Model, data: TrainingData) -> None:
    test = data.read("test")

    found = importance(model, test, test.column("label").to_numpy().astype(float), rows=600)

    assert sum(model.gain().values()) == pytest.approx(1)
    assert {one.feature for one in found} == set(model.features)
    assert found[0].feature == "delay"
    assert found[0].permutation > 0.05


def test_baselines_predict_the_rate_and_a_logistic_regression_of_the_request(data: TrainingData) -> None:
    test, train = data.read("test"), data.read("train")
    y = test.column("label").to_numpy().astype(float)

    rate, logistic = fit_baseline(Rate(), data), fit_baseline(LogisticRegression(), data)

    assert set(rate.predict(test)) == {train.column("label").to_numpy().astype(float).mean()}
    assert logistic.columns == ("carrier", "hour")
    assert 0.55 < measure("auc", y, logistic.predict(test)) < 0.8
    unseen = test.set_column(
        test.column_names.index("carrier"), "carrier", pa.array([None] * len(y), pa.string())
    )
    assert np.isfinite(logistic.predict(unseen)).all()


def test_a_baseline_that_cannot_be_fitted_says_why(data: TrainingData) -> None:
    with pytest.raises(TrainError, match=r'"horu" is not a feature of the dataset.*Did you mean "hour"'):
        fit_baseline(LogisticRegression(columns=("horu",)), data)
    bare = TrainingData(data.shards, data.label, data.features)
    with pytest.raises(TrainError, match="names no columns, and no feature comes from the request"):
        fit_baseline(LogisticRegression(), bare)


def test_the_report_is_one_file_that_asks_for_nothing_and_escapes_what_it_shows(
    model: Model, data: TrainingData, tmp_path: Path
) -> None:
    test = data.read("test")
    y = test.column("label").to_numpy().astype(float)
    predictions = {"late": model.predict(test), "rate": fit_baseline(Rate(), data).predict(test)}
    times = test.column("event_timestamp").cast(pa.int64()).to_numpy()
    found = evaluate(y, predictions, ["auc", "brier"], test.select(["carrier"]), times=times, count=50)
    clocks = evaluate(y, {"served": predictions["late"], "event": predictions["late"]}, ["auc"], count=50)
    report = Report(
        title="late <b>",
        question="Will it be late?",
        model=model,
        evaluation=found,
        y=y,
        predictions=predictions,
        parts=[PartFacts("train", 3500, 1000, 0, 10**15, {"label not known": 3})],
        importance=importance(model, test, y, rows=200, repeats=1),
        clocks=clocks,
        gate=judge(Gate(better_than="baselines"), found, baselines=["rate"]),
        examples=test.select(["event_timestamp", "carrier", "delay"]).slice(0, 4),
        facts={"run": "01ABC", "at": datetime.date(2013, 11, 1)},
    )

    page = write_report(report, tmp_path / "out" / "report.html").read_text()

    assert not re.search(r'(?:src|href)="(?!#)|@import|url\((?!#)', page)
    assert "late &lt;b&gt;" in page
    assert "<b>late <b>" not in page
    for heading in (
        "Data and split",
        "Scores",
        "calibration",
        "Slices",
        "What each clock says",
        "Gate",
        "Example",
        "The run",
    ):
        assert heading in page
    assert page.count("<svg") == 6
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert write_report(report, tmp_path / "again.html").read_text() == page
