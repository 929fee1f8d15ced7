"""Where a training's time went, for whoever asks: every trainer tells it, in the same words as far as they fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import Client

from mlflow_core.spec.network import MLP
from mlflow_core.spec.trainer import Family, Sklearn, Torch, Trainer, XGBoost
from tests.train.kept import Kept
from tests.train.made import fit, training_set

TREES = XGBoost(rounds=20, seed=3)
TRAINERS: dict[str, tuple[Trainer, set[str]]] = {
    "trees": (TREES, {"decoding", "data", "computing", "communication", "processor", "total"}),
    "network": (
        Torch(module=MLP(hidden=(16,)), epochs=1, device="cpu"),
        {"data", "computing", "communication", "processor", "total"},
    ),
    "estimator": (
        Sklearn(estimator="sklearn.linear_model:LogisticRegression"),
        {"data", "computing", "total"},
    ),
    "family": (Family(trainer=TREES, by=("carrier",)), {"data", "computing", "members", "total"}),
}


def spent(kept: Kept) -> dict[str, float]:
    found = {name: value for step, told in kept.told if step is None for name, value in told.items()}
    return {
        name.removeprefix("seconds."): value for name, value in found.items() if name.startswith("seconds.")
    }


@pytest.mark.parametrize("name", TRAINERS)
def test_a_training_tells_where_its_time_went_only_if_it_is_asked(tmp_path: Path, name: str) -> None:
    (trainer, expected), data = TRAINERS[name], training_set(tmp_path / "data")
    asked, not_asked = Kept(), Kept()

    fit(trainer, data, workdir=tmp_path / "asked", recorder=asked, profile=True)
    fit(trainer, data, workdir=tmp_path / "not", recorder=not_asked)

    assert expected <= spent(asked).keys()
    assert all(value >= 0 for value in spent(asked).values())
    assert 0 < spent(asked)["computing"] <= spent(asked)["total"]
    assert spent(not_asked) == {}


def test_ranks_of_trees_tell_how_long_they_did_not_compute(tmp_path: Path, client: Client) -> None:
    data, alone, both = training_set(tmp_path / "data"), Kept(), Kept()
    two = TREES.model_copy(update={"workers": 2})

    fit(TREES, data, workdir=tmp_path / "one", recorder=alone, profile=True)
    fit(two, data, workdir=tmp_path / "two", recorder=both, profile=True, client=client)

    assert spent(alone)["communication"] == 0
    assert spent(both)["communication"] > 0
    parts = ("decoding", "data", "computing", "communication")
    assert sum(spent(both)[part] for part in parts) == pytest.approx(spent(both)["total"])
