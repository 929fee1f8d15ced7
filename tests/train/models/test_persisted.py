"""Estimators on disk: the same bytes, no pickle, nothing foreign, no tree that leads nowhere."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import orjson
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures
from sklearn.tree import DecisionTreeClassifier

from mlflow_core.errors import TrainError
from mlflow_core.train.models.persisted import dump_estimator, load_estimator

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 4))
X[:, 3] = RANDOM.integers(0, 5, 300)
Y = (X[:, 0] + RANDOM.normal(size=300) > 0).astype(int)
MADE: dict[str, Any] = {
    "sklearn.linear_model:LogisticRegression": LogisticRegression(),
    "sklearn.ensemble:RandomForestClassifier": RandomForestClassifier(n_estimators=5, random_state=0),
    "sklearn.ensemble:HistGradientBoostingClassifier": HistGradientBoostingClassifier(
        max_iter=5, categorical_features=[3], random_state=0
    ),
    "sklearn.neighbors:KNeighborsClassifier": KNeighborsClassifier(algorithm="kd_tree"),
}


class Own(ClassifierMixin, BaseEstimator):
    """An estimator of another library."""


@pytest.mark.parametrize("path", MADE)
def test_an_estimator_is_read_back_as_it_was(path: str) -> None:
    fitted = MADE[path].fit(X, Y)

    again = load_estimator(dump_estimator(fitted), path, place="here")

    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


WRITE = """
import hashlib, sys
sys.path[:0] = sys.argv[1:]
from tests.train.models.test_persisted import MADE, X, Y
from mlflow_core.train.models.persisted import dump_estimator
print([hashlib.sha256(dump_estimator(one.fit(X, Y))).hexdigest() for one in MADE.values()])
"""


def test_the_same_fit_gives_the_same_bytes_in_another_process() -> None:
    def digests(seed: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", WRITE, "."],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        return ran.stdout

    assert digests("1") == digests("2")


def test_a_damaged_file_or_one_of_another_estimator_is_refused() -> None:
    data = dump_estimator(LogisticRegression().fit(X, Y))

    with pytest.raises(TrainError, match="here: is not an estimator that can be read"):
        load_estimator(data[: len(data) // 2], "sklearn.linear_model:LogisticRegression", place="here")
    with pytest.raises(TrainError, match=r"here: holds a LogisticRegression.*Expected a Ridge"):
        load_estimator(data, "sklearn.linear_model:Ridge", place="here")


@pytest.mark.parametrize(
    ("held", "named"),
    [
        (Own(), "Own"),
        (FunctionTransformer(exec), "builtins.exec"),
        (FunctionTransformer(subprocess.run), "subprocess.run"),
    ],
)
def test_a_file_that_holds_what_the_library_does_not_define_is_refused_by_name(held: Any, named: str) -> None:
    fitted = LogisticRegression().fit(X, Y)
    fitted.extra_ = held

    with pytest.raises(TrainError, match=f'holds the type ".*{named}", which is not trusted'):
        load_estimator(dump_estimator(fitted), "sklearn.linear_model:LogisticRegression", place="here")


def test_a_name_that_the_library_only_imports_is_not_one_that_it_defines() -> None:
    fitted = LogisticRegression().fit(X, Y)
    data = skops.io.dumps(fitted)
    with zipfile.ZipFile(io.BytesIO(data)) as given:
        members = {name: given.read(name) for name in given.namelist()}
    schema = orjson.loads(members["schema.json"])
    schema["content"]["content"]["extra_"] = {
        "__class__": "clone",
        "__module__": "sklearn.model_selection._search",
        "__loader__": "FunctionNode",
        "__id__": 1,
    }
    members["schema.json"] = orjson.dumps(schema)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        for name, content in members.items():
            written.writestr(name, content)

    with pytest.raises(TrainError, match=r'holds the type "sklearn.model_selection._search.clone"'):
        load_estimator(out.getvalue(), "sklearn.linear_model:LogisticRegression", place="here")


def changed(data: bytes, change: Any) -> bytes:
    """The archive with one array changed: the first for which ``change`` gives another."""
    out, done = io.BytesIO(), False
    with zipfile.ZipFile(io.BytesIO(data)) as given, zipfile.ZipFile(out, "w") as written:
        for name in given.namelist():
            content = given.read(name)
            if name.endswith(".npy") and not done:
                array = np.load(io.BytesIO(content))
                if done := change(array):
                    buffer = io.BytesIO()
                    np.save(buffer, array)
                    content = buffer.getvalue()
            written.writestr(name, content)
    assert done, "there was nothing to change"
    return out.getvalue()


@pytest.mark.parametrize("field", ["left_child", "right_child", "feature", "left", "right", "feature_idx"])
@pytest.mark.parametrize("value", [-7, 1_000_000, 0])
def test_a_tree_whose_nodes_lead_nowhere_or_round_in_circles_is_refused(field: str, value: int) -> None:
    forest = field in ("left_child", "right_child", "feature")
    path = "sklearn.ensemble:" + ("RandomForestClassifier" if forest else "HistGradientBoostingClassifier")
    if value == 0 and field.startswith("feature"):
        value = 4  # there are four

    def change(array: np.ndarray) -> bool:
        if array.dtype.names is None or field not in array.dtype.names:
            return False
        array[field][0] = value
        return True

    if value < 0 and not forest:
        value += 2**32  # unsigned there
    data = changed(dump_estimator(MADE[path].fit(X, Y)), change)

    with pytest.raises(TrainError, match=r"holds a tree whose nodes lead nowhere|cannot be read"):
        load_estimator(data, path, place="here")


def test_neighbours_that_are_not_there_are_refused() -> None:
    path = "sklearn.neighbors:KNeighborsClassifier"

    def change(array: np.ndarray) -> bool:
        if (
            array.dtype != np.int64
            or array.ndim != 1
            or len(array) != len(X)
            or set(array) != set(range(len(X)))
        ):
            return False
        array[0] = 10**9
        return True

    with pytest.raises(TrainError, match=r"leads? nowhere"):
        load_estimator(changed(dump_estimator(MADE[path].fit(X, Y)), change), path, place="here")


@pytest.mark.parametrize(
    "path",
    [
        "os:system",
        "antigravity:fly",
        "sklearn.linear_model",
        "sklearn..linear_model:Ridge",
        "sklearn.linear_model:Ridge.fit",
        "../evil:Ridge",
        "",
    ],
)
def test_a_path_that_names_no_class_of_a_library_is_never_imported(path: str) -> None:
    with pytest.raises(TrainError, match=r"here: .* is no import path of an estimator"):
        load_estimator(dump_estimator(LogisticRegression().fit(X, Y)), path, place="here")
    assert "antigravity" not in sys.modules


def test_a_module_that_the_archive_names_is_refused_before_it_is_imported() -> None:
    data = dump_estimator(LogisticRegression().fit(X, Y))
    with zipfile.ZipFile(io.BytesIO(data)) as given:
        members = {name: given.read(name) for name in given.namelist()}
    schema = orjson.loads(members["schema.json"]) | {"__module__": "antigravity"}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        for name, content in (members | {"schema.json": orjson.dumps(schema)}).items():
            written.writestr(name, content)

    with pytest.raises(
        TrainError, match=r'holds the type "antigravity.LogisticRegression", which is not trusted'
    ):
        load_estimator(out.getvalue(), "sklearn.linear_model:LogisticRegression", place="here")
    assert "antigravity" not in sys.modules


def test_trees_inside_others_are_held_to_the_features_that_they_read_themselves() -> None:
    wide = Pipeline([("more", PolynomialFeatures(2)), ("tree", DecisionTreeClassifier(max_depth=3))]).fit(
        X, Y
    )
    few = BaggingClassifier(DecisionTreeClassifier(), n_estimators=3, max_features=2, random_state=0).fit(
        X, Y
    )
    stages = GradientBoostingClassifier(n_estimators=3).fit(X, Y)

    for one, path in ((wide, "sklearn.pipeline:Pipeline"), (few, "sklearn.ensemble:BaggingClassifier")):
        np.testing.assert_array_equal(
            load_estimator(dump_estimator(one), path, place="here").predict(X), one.predict(X)
        )
    path = "sklearn.ensemble:GradientBoostingClassifier"
    assert load_estimator(dump_estimator(stages), path, place="here").n_features_in_ == 4
    stages.estimators_[1, 0].n_features_in_ = 1_000
    with pytest.raises(TrainError, match="whose nodes lead nowhere"):
        load_estimator(dump_estimator(stages), path, place="here")
    few.estimators_[0].n_features_in_ = 1
    with pytest.raises(TrainError, match="whose nodes lead nowhere"):
        load_estimator(dump_estimator(few), "sklearn.ensemble:BaggingClassifier", place="here")
