"""Training: equal to plain XGBoost, the same twice, close over two ranks, and clear about what cannot be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.telemetry.progress import SilentProgress
from mlflow_core.train.data.matrix import StoredMatrix, build_matrix
from mlflow_core.train.evaluation.metrics import measure
from mlflow_core.train.xgboost.rank import Part
from tests.train.kept import Kept
from tests.train.made import FEATURES, fit, table, training_set, write

TRAINER = XGBoost(
    rounds=40, early_stopping=8, max_depth=4, metric="auc", subsample=0.8, colsample=0.8, seed=7
)


def test_one_rank_learns_the_same_trees_as_plain_xgboost(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    settings = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": 4,
        "learning_rate": 0.1,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "eval_metric": "auc",
        "seed": 7,
    }
    parts = {}
    for part in ("train", "validate", "test"):
        frame = data.read(part).select([*FEATURES, "label"]).to_pandas()
        frame["carrier"] = frame["carrier"].astype("category").cat.set_categories(["AA", "B6", "DL", "UA"])
        frame["late"] = frame["late"].astype(float)
        parts[part] = frame
    plain = {name: (frame[list(FEATURES)], frame["label"]) for name, frame in parts.items()}
    train = xgboost.QuantileDMatrix(*plain["train"], enable_categorical=True)
    validate = xgboost.QuantileDMatrix(*plain["validate"], ref=train, enable_categorical=True)
    stop = xgboost.callback.EarlyStopping(rounds=8, save_best=True)
    booster = xgboost.train(
        settings, train, 40, evals=[(validate, "v")], callbacks=[stop], verbose_eval=False
    )

    model = fit(TRAINER, data, workdir=tmp_path / "work")

    ours = model.predict(data.read("test"))
    theirs = booster.predict(xgboost.DMatrix(plain["test"][0], enable_categorical=True))
    assert model.scorer.rounds == booster.num_boosted_rounds()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_same_seed_rows_and_workers_give_the_same_bytes(tmp_path: Path, client: Client) -> None:
    data = training_set(tmp_path / "data")

    here = [fit(TRAINER, data, workdir=tmp_path / f"here{n}").scorer.ubj for n in range(2)]
    two = TRAINER.model_copy(update={"workers": 2})
    there = [fit(two, data, client=client, workdir=tmp_path / f"there{n}").scorer.ubj for n in range(2)]

    assert here[0] == here[1]
    assert there[0] == there[1]
    assert here[0] != fit(TRAINER.model_copy(update={"seed": 8}), data, workdir=tmp_path / "other").scorer.ubj


def test_one_rank_on_the_cluster_equals_training_in_process(tmp_path: Path, client: Client) -> None:
    data = training_set(tmp_path / "data")

    here = fit(TRAINER, data, workdir=tmp_path / "here")
    there = fit(TRAINER, data, client=client, workdir=tmp_path / "there")

    test = data.read("test")
    np.testing.assert_allclose(here.predict(test), there.predict(test), rtol=1e-6)
    assert here.history.keys() == there.history.keys() == {"auc"}


def test_two_ranks_are_as_good_as_one_and_tell_each_round(tmp_path: Path, client: Client) -> None:
    data, kept = training_set(tmp_path / "data"), Kept()

    one = fit(TRAINER, data, workdir=tmp_path / "one")
    two = fit(
        TRAINER.model_copy(update={"workers": 2}),
        data,
        client=client,
        workdir=tmp_path / "two",
        recorder=kept,
    )

    test = data.read("test")
    y = test.column("label").to_numpy().astype(float)
    aucs = [measure("auc", y, model.predict(test)) for model in (one, two)]
    assert aucs[0] > 0.75
    assert abs(aucs[0] - aucs[1]) < 0.01
    assert [step for step, _ in kept.told] == list(range(len(two.history["auc"])))
    assert kept.told[0][1] == {"validate_auc": two.history["auc"][0]}
    assert kept.seen["rows.train"] == 3500
    assert kept.seen["features.category"] == 1


def test_more_ranks_than_workers_are_refused(tmp_path: Path, client: Client) -> None:
    data = training_set(tmp_path / "data")

    with pytest.raises(TrainError, match="3 ranks were asked for, but the cluster has 2 workers"):
        fit(XGBoost(workers=3), data, client=client, workdir=tmp_path)
    with pytest.raises(TrainError, match="2 workers were asked for, but there is no cluster"):
        fit(XGBoost(workers=2), data, workdir=tmp_path)


def test_fewer_rows_than_workers_are_refused(tmp_path: Path, client: Client) -> None:
    one = table(1, 0).set_column(table(1, 0).column_names.index("label"), "label", pa.array([1.5]))
    data = write(tmp_path / "data", {"train": [table(50, 1)], "validate": [one], "test": [one]})

    with pytest.raises(TrainError, match='the part "validate" has 1 rows for 2 workers'):
        fit(XGBoost(objective="reg:squarederror", workers=2), data, client=client, workdir=tmp_path / "work")


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            XGBoost(objective="binary:logistc"),
            "the settings are refused: Unknown objective function: `binary:logistc`",
        ),
        (XGBoost(metric="acu"), "the settings are refused: Unknown metric function acu"),
        (XGBoost(params={"gama": 1}), 'XGBoost does not use the parameter "gama"'),
        (XGBoost(params={"eta": 1}), r'params sets "eta", which is the field "learning_rate"'),
        (XGBoost(params={"gamma": -1}), "the settings are refused: .*min_split_loss"),
        (
            XGBoost(objective="multi:softprob", classes=3, params={"num_class": 3}),
            'params sets "num_class", which is the field "classes"',
        ),
    ],
)
def test_a_wrong_setting_is_told_before_any_data_is_read(
    tmp_path: Path, trainer: XGBoost, message: str
) -> None:
    nowhere = training_set(tmp_path / "data", label="label")
    for paths in nowhere.shards.values():
        for path in paths:
            path.unlink()

    with pytest.raises(TrainError, match=message):
        fit(trainer, nowhere, workdir=tmp_path / "work")


def _labelled(values: list[Any], type_: pa.DataType) -> pa.Table:
    made = table(len(values), 5)
    return made.set_column(made.column_names.index("label"), "label", pa.array(values, type_))


@pytest.mark.parametrize(
    ("part", "bad", "message"),
    [
        ("train", _labelled([False] * 40, pa.bool_()), r'label "label" has no positive in the part "train" \(40 rows\): all 40 are 0'),
        ("validate", _labelled([True] * 30, pa.bool_()), r'no negative in the part "validate" \(30 rows\): all 30 are 1'),
        ("train", _labelled([1.0, float("nan"), None, 0.0], pa.float64()), "is null or NaN 2 times and infinite 0 times"),
        ("train", _labelled([1.0, float("inf"), 0.0], pa.float64()), "infinite 1 times"),
        ("train", _labelled([1, 2, 0], pa.int64()), "1 values other than 0 and 1"),
        ("train", _labelled(["a", "b"], pa.string()), 'label "label" is of type string'),
        ("validate", table(0, 0), 'the part "validate" of the dataset has no rows'),
        ("train", table(40, 0).drop_columns(["gust"]), 'there is no column "gust" in the shard'),
    ],
)  # fmt: skip
def test_data_that_no_model_can_be_trained_on_is_refused(
    tmp_path: Path, part: str, bad: pa.Table, message: str
) -> None:
    good = {"train": [table(100, 1)], "validate": [table(50, 2)], "test": [table(50, 3)]}
    data = write(tmp_path / "data", good | {part: [bad]})

    with pytest.raises(TrainError, match=message):
        fit(XGBoost(rounds=3), data, workdir=tmp_path / "work")


def test_a_part_without_files_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"train": [], "validate": [table(5, 2)], "test": []})

    with pytest.raises(TrainError, match='the part "train" of the dataset has no rows'):
        fit(XGBoost(rounds=3), data, workdir=tmp_path / "work")


def test_features_that_tell_nothing_are_noted_and_training_goes_on(tmp_path: Path) -> None:
    def with_useless(rows: int, seed: int) -> pa.Table:
        made = table(rows, seed).append_column("empty", pa.nulls(rows, pa.float64()))
        return made.append_column("nothing", pa.nulls(rows)).append_column(
            "flat", pa.array(np.full(rows, 3.0))
        )

    parts = {p: [with_useless(300, n)] for n, p in enumerate(("train", "validate", "test"))}
    data = write(tmp_path / "data", parts, features=(*FEATURES, "empty", "nothing", "flat"))

    model = fit(XGBoost(rounds=5), data, workdir=tmp_path / "work")

    assert [note.split('"')[1] for note in model.notes] == ["empty", "nothing", "flat"]
    assert "null in all 300 training rows" in model.notes[0]
    assert len(model.predict(data.read("test"))) == 300


def test_a_regression_is_trained_with_its_own_objective(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data", label="amount", features=("delay", "gust", "hour"))

    model = fit(
        XGBoost(objective="reg:squarederror", rounds=60),
        data,
        workdir=tmp_path / "work",
        progress=SilentProgress(),
    )

    test = data.read("test")
    assert model.task == "regression"
    assert measure("r2", test.column("amount").to_numpy(), model.predict(test)) > 0.8


def test_shares_are_balanced_contiguous_and_complete() -> None:
    part = Part(StoredMatrix(Path("none"), 17, ("one",), 1, ""))

    shares = [part.share(index, 4) for index in range(4)]

    assert [share.count for share in shares] == [4, 4, 4, 5]
    assert [row for one in shares for row in range(one.first, one.last)] == list(range(17))


def test_trials_of_one_dataset_share_its_matrices_and_without_a_cache_none_are_left(tmp_path: Path) -> None:
    data, cache = training_set(tmp_path / "data"), tmp_path / "cache"

    first = fit(TRAINER, data, workdir=tmp_path / "first", cache=cache)
    made = {path: path.stat().st_mtime_ns for path in cache.glob("matrix-*/matrix.f32")}
    second = fit(TRAINER.model_copy(update={"max_depth": 3}), data, workdir=tmp_path / "second", cache=cache)
    alone = fit(TRAINER, data, workdir=tmp_path / "alone")

    assert len(made) == 2
    assert {path: path.stat().st_mtime_ns for path in cache.glob("matrix-*/matrix.f32")} == made
    assert second.scorer.ubj != first.scorer.ubj == alone.scorer.ubj
    assert not list((tmp_path / "alone").iterdir())


def test_a_rank_that_sees_another_matrix_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = training_set(tmp_path / "data")

    def of_another(*arguments: Any, **named: Any) -> StoredMatrix:
        return replace(build_matrix(*arguments, **named), digest="of another host")

    monkeypatch.setattr("mlflow_core.train.xgboost.fit.build_matrix", of_another)
    with pytest.raises(TrainError, match="the matrix is not the one that was built"):
        fit(TRAINER, data, workdir=tmp_path / "work")
