"""Exports: what the folder holds, that one which differs is refused by its worst row, that a damaged one is too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import orjson
import pyarrow as pa
import pytest
from onnx import numpy_helper

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Sklearn
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.onnx import estimator as estimators
from mlflow_core.train.models.onnx.export import export_onnx
from mlflow_core.train.models.onnx.scorer import OnnxScorer
from tests.train.made import fit, table, training_set


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("work")
    trainer = Sklearn(estimator="sklearn.ensemble:HistGradientBoostingClassifier", arguments={"max_iter": 10})
    return fit(trainer, training_set(folder / "data"), workdir=folder)


def test_the_folder_holds_the_graph_its_columns_and_how_far_it_is_off(model: Model, tmp_path: Path) -> None:
    rows = table(400, 9)

    exported = export_onnx(model, tmp_path / "onnx", rows)

    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "features.json",
        "model.onnx",
        "parity.json",
    ]
    onnx.checker.check_model(onnx.load(exported.folder / "model.onnx"), full_check=True)
    features = orjson.loads((exported.folder / "features.json").read_bytes())
    assert features["columns"] == list(model.features)
    assert features["features"][3]["categories"] == ["AA", "B6", "DL", "UA"]
    parity = orjson.loads((exported.folder / "parity.json").read_bytes())
    assert parity["rows"] == 400
    assert parity["missing"] == int(np.isnan(model.preprocessing.matrix(rows)).sum()) > 0
    assert 0 <= parity["greatest_relative"] <= parity["tolerance"] == 1e-5


def test_an_export_is_read_back_and_predicts_alike_one_row_or_many(model: Model, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "onnx", table(50, 9))
    rows = table(5000, 10)
    unseen = {name: [None, None] for name in model.features} | {"carrier": ["ZZ", "UA"]}

    again = OnnxScorer.load(tmp_path / "onnx")

    np.testing.assert_allclose(again.predict(rows), model.predict(rows), rtol=1e-5)
    np.testing.assert_allclose(again.predict_columns(unseen), model.predict_columns(unseen), rtol=1e-5)
    assert again.predict(rows.slice(0, 0)).shape == (0,)


def test_the_same_model_gives_the_same_export(model: Model, tmp_path: Path) -> None:
    first, second = (export_onnx(model, tmp_path / name, table(50, 9)).folder for name in ("a", "b"))

    for name in ("model.onnx", "features.json", "parity.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_graph_that_predicts_something_else_is_refused_with_the_worst_row(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = estimators.estimator_graph

    def wrong(scorer: object) -> onnx.ModelProto:
        graph = right(scorer)  # type: ignore[arg-type]
        (tree,) = (node for node in graph.graph.node if node.op_type == "TreeEnsemble")
        (missing,) = (one for one in tree.attribute if one.name == "nodes_missing_value_tracks_true")
        for place, side in enumerate(missing.ints):
            missing.ints[place] = 1 - side
        return graph

    monkeypatch.setattr(estimators, "estimator_graph", wrong)
    rows = table(300, 9)
    with pytest.raises(
        TrainError, match=r"differs in \d+ of 300 rows, most in row (\d+) \(delay="
    ) as refused:
        export_onnx(model, tmp_path / "onnx", rows)

    row = int(str(refused.value).partition("most in row ")[2].partition(" ")[0])
    assert f"predicts {model.predict(rows)[row]:.9g}, ONNX " in str(refused.value)
    assert rows["delay"][row].as_py() is None or rows["carrier"][row].as_py() is None
    assert list(tmp_path.iterdir()) == []


def test_a_few_values_off_by_little_are_refused_too(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = estimators.estimator_graph

    def wrong(scorer: object) -> onnx.ModelProto:
        graph = right(scorer)  # type: ignore[arg-type]
        (base,) = (one for one in graph.graph.initializer if one.name == "base")
        base.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(base) + np.float32(1e-3), "base"))
        return graph

    monkeypatch.setattr(estimators, "estimator_graph", wrong)
    with pytest.raises(TrainError, match=r"differs in \d+ of 300 rows.*at most 1e-05"):
        export_onnx(model, tmp_path / "onnx", table(300, 9))
    assert export_onnx(model, tmp_path / "onnx", table(300, 9), tolerance=1e-2).greatest_relative > 1e-5


def test_an_export_is_replaced_but_nothing_else_is(model: Model, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "onnx", table(50, 9))
    export_onnx(model, tmp_path / "onnx", table(70, 9))
    assert orjson.loads((tmp_path / "onnx" / "parity.json").read_bytes())["rows"] == 70

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(TrainError, match="mine: holds something else"):
        export_onnx(model, tmp_path / "mine", table(50, 9))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_no_rows_or_rows_without_a_feature_are_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"there are no rows to compare.*at least one real row"):
        export_onnx(model, tmp_path / "onnx", table(5, 9).slice(0, 0))
    with pytest.raises(TrainError, match='needs the column "gust"'):
        export_onnx(model, tmp_path / "onnx", table(5, 9).drop_columns(["gust"]))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_incomplete_or_newer_export_is_refused(model: Model, tmp_path: Path) -> None:
    folder = export_onnx(model, tmp_path / "onnx", table(50, 9)).folder
    graph, facts = (folder / "model.onnx").read_bytes(), (folder / "features.json").read_bytes()

    (folder / "model.onnx").write_bytes(graph[:-5])
    with pytest.raises(TrainError, match=r"model.onnx: the file is not the one that was exported"):
        OnnxScorer.load(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(TrainError, match=r"model.onnx: there is no such file"):
        OnnxScorer.load(folder)
    (folder / "features.json").write_bytes(orjson.dumps(orjson.loads(facts) | {"schema": 9}))
    with pytest.raises(TrainError, match=r"is of schema 9.*Expected schema 1"):
        OnnxScorer.load(folder)
    (folder / "features.json").write_bytes(facts[:-9])
    with pytest.raises(TrainError, match=r"features.json: is not JSON"):
        OnnxScorer.load(folder)


def test_a_model_of_several_outputs_names_the_one_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(400, 3).append_column("part", pa.array(np.arange(400) % 3))
    data = training_set(tmp_path / "data")
    shard = tmp_path / "three.parquet"
    pa.parquet.write_table(rows, shard)
    data = replace(data, shards=dict.fromkeys(("train", "validate", "test"), (shard,)), label="part")
    trainer = Sklearn(
        estimator="sklearn.ensemble:RandomForestClassifier",
        arguments={"n_estimators": 5},
        objective="multiclass",
    )
    model = fit(trainer, data, workdir=tmp_path)
    right = estimators.estimator_graph

    def wrong(scorer: object) -> onnx.ModelProto:
        graph = right(scorer)  # type: ignore[arg-type]
        (tree,) = (node for node in graph.graph.node if node.op_type == "TreeEnsemble")
        (weights,) = (one for one in tree.attribute if one.name == "leaf_weights")
        (targets,) = (one for one in tree.attribute if one.name == "leaf_targetids")
        values = numpy_helper.to_array(weights.t).copy()
        values[np.array(targets.ints) == 2] *= 0.5
        weights.t.CopyFrom(numpy_helper.from_array(values, "values"))
        return graph

    assert export_onnx(model, tmp_path / "onnx", rows).rows == 400
    monkeypatch.setattr(estimators, "estimator_graph", wrong)
    with pytest.raises(TrainError, match='of output "2", ONNX'):
        export_onnx(model, tmp_path / "wrong", rows)
