"""Folders that are damaged or made to do harm: each is refused with a sentence and its place, none ends the process."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import xgboost

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.trees import check_booster
from mlflow_core.train.models.ubj import read_ubj
from tests.train.made import fit, training_set

SIZES = {b"i": (">b", 1), b"I": (">h", 2), b"l": (">i", 4), b"L": (">q", 8), b"U": (">B", 1)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    return fit(XGBoost(rounds=4, max_depth=3, seed=1), training_set(folder / "data"), workdir=folder)


def saved(model: Model, folder: Path, *, booster: bytes | None = None, **facts: Any) -> Path:
    """A folder whose digests are right, whatever it says."""
    model.save(folder)
    if booster is not None:
        (folder / "booster.ubj").write_bytes(booster)
    told = orjson.loads((folder / "model.json").read_bytes()) | facts
    kept = {name: value for name, value in told.items() if value is not ...}
    (folder / "model.json").write_bytes(orjson.dumps(kept))
    sign(folder)
    return folder


def sign(folder: Path, *without: str) -> None:
    files = {
        path.name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in folder.iterdir()
        if path.name not in ("manifest.json", *without)
    }
    (folder / "manifest.json").write_bytes(orjson.dumps({"schema": 2, "files": files}))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"task": "nonsense"}, r'model.json: .*"task": Input should be'),
        ({"task": 3}, '"task"'),
        ({"label": ...}, '"label": Field required'),
        ({"outputs": "ab"}, '"outputs": Input should be a valid list'),
        ({"outputs": [1]}, '"outputs.0": Input should be a valid string'),
        ({"request": None}, '"request"'),
        ({"features": {"name": "x"}}, '"features"'),
        ({"features": [{"kind": "number"}]}, "model.json: .*KeyError: 'name'"),
        ({"features": [3]}, '"features.0"'),
        ({"scorer": []}, '"scorer"'),
        ({"best": "last"}, '"best"'),
        ({"history": {"auc": 3}}, '"history.auc"'),
        ({"metadata": []}, '"metadata"'),
        ({"kind": "sklearn"}, "there is no estimator.skops"),
        ({"kind": "family"}, "model.json: .*KeyError: 'members'"),
        ({"kind": "family", "scorer": {"members": 3}}, "model.json: .*TypeError"),
        ({"kind": "torch"}, "there is no weights.safetensors"),
        ({"kind": "nonsense"}, 'of the kind "nonsense"'),
    ],
)
def test_facts_that_are_not_what_they_should_be_are_told_with_their_file(
    model: Model, tmp_path: Path, facts: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainError, match=message) as told:
        Model.load(saved(model, tmp_path / "model", **facts))
    assert str(tmp_path) in str(told.value)


@pytest.mark.parametrize("length", [10**12, 10_001, 0, -1])
def test_a_list_said_to_be_endless_is_refused_before_its_columns_are_made(
    model: Model, tmp_path: Path, length: int
) -> None:
    endless = {"name": "legs", "kind": "number", "type": "list<item: double>", "length": length}

    with pytest.raises(TrainError, match=f'"legs" is said to be a list of {length} elements'):
        Model.load(saved(model, tmp_path / "model", features=[endless]))


def test_a_manifest_names_the_facts_and_files_of_its_own_folder_only(model: Model, tmp_path: Path) -> None:
    folder = saved(model, tmp_path / "model")
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    sign(folder, "model.json")
    with pytest.raises(TrainError, match=r"does not name model\.json"):
        Model.load(folder)
    (tmp_path / "secret").write_bytes(b"x")
    for name in ("../secret", "..", "/etc/hostname"):
        files = {**manifest["files"], name: "sha256:0"}
        (folder / "manifest.json").write_bytes(orjson.dumps(manifest | {"files": files}))
        with pytest.raises(TrainError, match="which is no file of the folder"):
            Model.load(folder)
    for files in (["model.json"], None, {"model.json": 3}):
        (folder / "manifest.json").write_bytes(orjson.dumps(manifest | {"files": files}))
        with pytest.raises(TrainError, match="does not say which files there are"):
            Model.load(folder)


def trees() -> bytes:
    """Trees that split numbers and categories."""
    random = np.random.default_rng(0)
    x = random.random((800, 3)).astype(np.float32)
    x[:, 2] = random.integers(0, 20, 800)
    y = x[:, 0] + np.isin(x[:, 2], [3, 7, 11]) > 0.6
    rows = xgboost.DMatrix(x, y, feature_types=["q", "q", "c"], enable_categorical=True)
    return bytes(
        xgboost.train({"max_depth": 4, "max_cat_to_onehot": 1, "nthread": 1}, rows, 3).save_raw("ubj")
    )


def patched(ubj: bytes, name: str, place: int, value: int) -> bytes:
    """The booster with one number of the first array of that name changed."""
    start = ubj.index(name.encode() + b"[") + len(name) + 1
    if ubj[start : start + 1] == b"$":
        code, size = SIZES[ubj[start + 1 : start + 2]]
        at = start + len(b"$l#L") + 8 + place * size
    else:  # each number has its own kind before it
        code, size = SIZES[ubj[start + 10 : start + 11]]
        at = start + len(b"#L") + 8 + place * (1 + size) + 1
    return ubj[:at] + struct.pack(code, value) + ubj[at + size :]


def first_of(ubj: bytes, name: str) -> Any:
    return read_ubj(ubj)["learner"]["gradient_booster"]["model"]["trees"][0][name]


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("left_children", 0, 100_000_000, "child is no node after it"),
        ("left_children", 0, -5, "child is no node after it"),
        ("left_children", 0, 0, "child is no node after it"),
        ("right_children", 1, 0, "child is no node after it"),
        ("right_children", 0, 2**31 - 1, "child is no node after it"),
        ("parents", 3, 100_000_000, "child is no node after it"),
        ("parents", 0, 1, "its first node has a parent"),
        ("split_indices", 0, 3, "a feature that there is not"),
        ("split_indices", 0, -1, "a feature that there is not"),
        ("categories_nodes", 0, 100_000_000, "categories are of nodes that there are not"),
        ("categories_segments", 0, 100_000_000, "a node's categories are not there"),
        ("categories_sizes", 0, 100_000_000, "a node's categories are not there"),
        ("categories", 0, 2**31 - 1, "categories that no number tells apart"),
        ("tree_info", 0, 1, "of an output that there is not"),
        ("iteration_indptr", 3, 7, "rounds are not made of its trees"),
    ],
)
def test_a_booster_that_leads_nowhere_is_refused_before_it_is_read(
    name: str, place: int, value: int, message: str
) -> None:
    sound = trees()
    check_booster(sound, width=3, place="here")
    assert len(first_of(sound, "categories_nodes")), "it splits categories"

    with pytest.raises(TrainError, match=f"here: holds a booster that leads nowhere.*{message}"):
        check_booster(patched(sound, name, place, value), width=3, place="here")


def test_a_model_with_such_a_booster_is_not_loaded(model: Model, tmp_path: Path) -> None:
    harmful = patched(model.scorer.ubj, "left_children", 0, 100_000_000)

    with pytest.raises(TrainError, match=r"booster.ubj: holds a booster that leads nowhere"):
        Model.load(saved(model, tmp_path / "model", booster=harmful))


def test_a_booster_cut_anywhere_or_with_something_behind_it_is_refused(model: Model) -> None:
    ubj, width = model.scorer.ubj, model.preprocessing.width

    for cut in np.random.default_rng(3).integers(0, len(ubj), 200):
        with pytest.raises(TrainError, match="is not a booster"):
            check_booster(ubj[:cut], width=width, place="here")
    with pytest.raises(TrainError, match="1 bytes are behind its end"):
        check_booster(ubj + b"}", width=width, place="here")
    with pytest.raises(TrainError, match="is not a booster"):
        check_booster(b"{" * 100_000, width=width, place="here")
    with pytest.raises(TrainError, match=f"it reads {width} features"):
        check_booster(ubj, width=width + 1, place="here")


@pytest.mark.parametrize(
    "settings",
    [
        {"booster": "dart"},
        {"num_parallel_tree": 3},
        {"gamma": 1.0, "tree_method": "exact"},
        {"grow_policy": "lossguide", "max_leaves": 9},
        {"objective": "multi:softprob", "num_class": 3},
        {"multi_strategy": "multi_output_tree", "several": True},
        {"several": True},
    ],
)
def test_what_xgboost_writes_is_sound_and_reads_as_it_is(settings: dict[str, Any]) -> None:
    settings = dict(settings)
    x = np.random.default_rng(0).random((300, 3))
    y = np.column_stack([x[:, 0], x[:, 1]]) if settings.pop("several", False) else np.floor(x[:, 0] * 3)
    booster = xgboost.train({"nthread": 1, "max_depth": 3, **settings}, xgboost.DMatrix(x, y), 4)
    ubj = bytes(booster.save_raw("ubj"))

    check_booster(ubj, width=3, place="here")

    found = read_ubj(ubj)["learner"]["gradient_booster"]
    told = orjson.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    ours, theirs = (one.get("gbtree", one)["model"]["trees"] for one in (found, told))
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own.keys() == other.keys()
        for name in ("left_children", "split_indices", "split_conditions"):
            np.testing.assert_allclose(np.asarray(own[name], dtype=float), other[name], rtol=1e-6, atol=1e-44)
