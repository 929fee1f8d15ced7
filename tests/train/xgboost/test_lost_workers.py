"""A worker is killed while it trains: with one in its place the same bytes come out, with one rank less about the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.recovery import Recovery
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.evaluation.metrics import measure
from mlflow_core.train.models.model import Model
from tests.train.kept import Kept
from tests.train.made import fit
from tests.train.xgboost.killing import Moment, killed_at
from tests.train.xgboost.rows import training_set

ROUNDS, EVERY = 20, 6
TRAINER = XGBoost(
    rounds=ROUNDS,
    checkpoint_every=EVERY,
    early_stopping=15,
    metric="auc",
    max_depth=4,
    learning_rate=0.3,
    subsample=0.7,
    colsample=0.6,
    seed=11,
    workers=2,
    recovery=Recovery(replace_within="60s"),
)
PLACES = ("load", "first round", "middle", "writing a checkpoint", "last round")


def moment(seed: int, folder: Path) -> Moment:
    """One of ten: each place for each rank, where in it by chance; the first rank alone writes."""
    chance = random.Random(seed)
    rank = seed // len(PLACES)
    place = PLACES[seed % len(PLACES)]
    of = {
        "load": ("load", chance.randrange(2)),
        "first round": ("round", 0),
        "middle": ("round", chance.randrange(1, ROUNDS - 1)),
        "writing a checkpoint": ("write", chance.randrange(4)),
        "last round": ("round", ROUNDS - 1),
    }[place]
    return Moment(*of, rank=0 if of[0] == "write" else rank, flag=folder / "killed")


def undisturbed(folder: Path, client: Client, data: Any, trainer: XGBoost = TRAINER) -> Model:
    return fit(trainer, data, client=client, workdir=folder)


def killed(
    seed: int, folder: Path, client: Client, data: Any, trainer: XGBoost = TRAINER
) -> tuple[Model, Kept]:
    when, kept = moment(seed, folder), Kept()
    print(f"seed {seed}: {PLACES[seed % len(PLACES)]} {when}")
    with killed_at(client, when):
        model = fit(trainer, data, client=client, workdir=folder / "work", recorder=kept)
    assert when.flag.exists()
    client.wait_for_workers(2, timeout=60)
    return model, kept


def check_same(model: Model, whole: Model, kept: Kept, folder: Path) -> None:
    assert model.scorer.ubj == whole.scorer.ubj
    assert model.history == whole.history
    assert model.best == whole.best
    assert [step for step, _ in kept.told] == list(range(len(whole.history["auc"])))
    assert [metrics["validate_auc"] for _, metrics in kept.told] == list(whole.history["auc"])
    assert kept.seen["gang.attempts"] == 2
    assert not list((folder / "work").iterdir())


@pytest.mark.parametrize("seed", [2, 3])
def test_a_killed_worker_that_is_replaced_changes_nothing(tmp_path: Path, client: Client, seed: int) -> None:
    data = training_set(tmp_path / "data", "binary")
    whole = undisturbed(tmp_path / "whole", client, data)

    model, kept = killed(seed, tmp_path, client, data)

    check_same(model, whole, kept, tmp_path)


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_worker_killed_at_any_of_ten_moments_and_replaced_changes_nothing(
    tmp_path: Path, client: Client
) -> None:
    data = training_set(tmp_path / "data", "binary")
    whole = undisturbed(tmp_path / "whole", client, data)

    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        model, kept = killed(seed, folder, client, data)
        check_same(model, whole, kept, folder)


def _auc(model: Model, data: Any) -> float:
    test = data.read("test")
    return measure("auc", test.column("binary").to_numpy().astype(float), model.predict(test))


# Gentler steps: what is compared is what a rank less does, not what other rows drawn by chance do.
GENTLE = TRAINER.model_copy(update={"learning_rate": 0.1, "early_stopping": 0})
SHRINKS = GENTLE.model_copy(update={"recovery": Recovery(replace_within="0s")})


def test_a_killed_worker_that_is_not_replaced_leaves_a_model_that_is_as_good(
    tmp_path: Path, client: Client
) -> None:
    data = training_set(tmp_path / "data", "binary", rows=20_000)
    whole = undisturbed(tmp_path / "whole", client, data, GENTLE)

    model, kept = killed(7, tmp_path, client, data, SHRINKS)

    print(f"AUC {_auc(whole, data):.5f} undisturbed, {_auc(model, data):.5f} with one rank less")
    assert kept.seen["gang.ranks"] == 1
    assert abs(_auc(model, data) - _auc(whole, data)) <= 0.002
    assert [step for step, _ in kept.told] == list(range(len(model.history["auc"])))


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_worker_killed_at_any_of_ten_moments_and_not_replaced_leaves_a_model_that_is_as_good(
    tmp_path: Path, client: Client
) -> None:
    data = training_set(tmp_path / "data", "binary", rows=20_000)
    whole = undisturbed(tmp_path / "whole", client, data, GENTLE)

    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        model, kept = killed(seed, folder, client, data, SHRINKS)
        assert abs(_auc(model, data) - _auc(whole, data)) <= 0.002, (seed, kept.seen["gang.ranks"])


def test_without_a_restart_the_error_says_where_it_can_go_on_and_the_next_call_does(
    tmp_path: Path, client: Client
) -> None:
    data = training_set(tmp_path / "data", "binary")
    whole = undisturbed(tmp_path / "whole", client, data)
    none = TRAINER.model_copy(update={"recovery": Recovery(restarts=0)})
    when, kept = Moment("round", EVERY * 2 + 2, 1, tmp_path / "killed"), Kept()

    with (
        killed_at(client, when),
        pytest.raises(TrainError, match=rf"of rank 1 was lost.*the last checkpoint is at {EVERY * 2}"),
    ):
        fit(none, data, client=client, workdir=tmp_path / "work")
    client.wait_for_workers(2, timeout=60)
    model = fit(none, data, client=client, workdir=tmp_path / "work", recorder=kept)

    np.testing.assert_array_equal(model.predict(data.read("test")), whole.predict(data.read("test")))
    assert model.scorer.ubj == whole.scorer.ubj
    assert [step for step, _ in kept.told] == list(range(len(whole.history["auc"])))
