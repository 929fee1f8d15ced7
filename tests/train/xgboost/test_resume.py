"""A training that goes on from a checkpoint ends as one that was never disturbed, to the bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.xgboost.segments import Plan, State, best_round, boost, is_over
from tests.train.kept import Kept
from tests.train.made import fit
from tests.train.xgboost.rows import column, frame, training_set

TRAINER = XGBoost(
    rounds=40,
    checkpoint_every=7,
    early_stopping=9,
    metric="auc",
    max_depth=4,
    learning_rate=0.3,
    subsample=0.6,
    colsample=0.6,
    seed=3,
    params={"colsample_bynode": 0.7},
)
SETTINGS = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eval_metric": "auc",
    "max_depth": 4,
    "learning_rate": 0.3,
    "subsample": 0.6,
    "colsample_bytree": 0.6,
    "colsample_bynode": 0.7,
    "seed": 3,
}


def plain_segments(data: Any) -> tuple[list[float], np.ndarray]:
    """Segments as plain XGBoost does them: each a call of ``xgboost.train`` on the booster so far."""
    parts = {}
    for part in ("train", "validate"):
        rows = data.read(part)
        parts[part] = xgboost.QuantileDMatrix(
            frame(rows), column("binary")(rows), enable_categorical=True, ref=parts.get("train")
        )
    booster, aucs = None, []
    for segment in range(6):
        log: dict[str, Any] = {}
        booster = xgboost.train(
            SETTINGS | {"seed": 3 + segment},
            parts["train"],
            min(7, 40 - 7 * segment),
            evals=[(parts["validate"], "validate")],
            evals_result=log,
            xgb_model=booster,
            verbose_eval=False,
        )
        aucs += log["validate"]["auc"]
    stop = next((r for r in range(40) if r - int(np.argmax(aucs[: r + 1])) >= 9), 39)
    best = int(np.argmax(aucs[: stop + 1]))
    test = xgboost.DMatrix(frame(data.read("test")), enable_categorical=True)
    return aucs[: stop + 1], booster[: best + 1].predict(test)


def test_segments_learn_what_plain_calls_with_a_seed_each_learn(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data", "binary")

    aucs, theirs = plain_segments(data)
    model = fit(TRAINER, data, workdir=tmp_path / "work")

    assert 7 < len(aucs) < 40  # it stops early, in a segment that is not the first
    np.testing.assert_allclose(model.history["auc"], aucs, rtol=1e-9)
    np.testing.assert_allclose(model.predict(data.read("test")), theirs, rtol=1e-5)
    assert not list((tmp_path / "work").iterdir())


class Stops(Kept):
    """Fails when it is told of a round, as a process does that is interrupted."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def metrics(self, metrics: Any, *, step: int | None = None) -> None:
        super().metrics(metrics, step=step)
        if step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("memory", ["in_memory", "external"])
@pytest.mark.parametrize("at", [0, 6, 7, 17])
def test_a_training_that_was_interrupted_goes_on_to_the_same_bytes(
    tmp_path: Path, at: int, memory: str
) -> None:
    data = training_set(tmp_path / "data", "binary")
    trainer = TRAINER.model_copy(update={"memory": memory})
    whole, kept = fit(trainer, data, workdir=tmp_path / "whole"), Kept()

    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data, workdir=tmp_path / "work", recorder=Stops(at))
    left = sorted(path.name for path in tmp_path.glob("work/checkpoints/*"))
    model = fit(trainer, data, workdir=tmp_path / "work", recorder=kept)

    assert left == [f"{n:012d}.checkpoint" for n in (7, 14) if n <= at]
    assert model.scorer.ubj == whole.scorer.ubj
    assert (model.history, model.best) == (whole.history, whole.best)
    assert [step for step, _ in kept.told] == list(range(len(whole.history["auc"])))
    assert [one["validate_auc"] for _, one in kept.told] == list(whole.history["auc"])
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.chaos
@pytest.mark.parametrize("memory", ["in_memory", "external"])
def test_a_process_that_was_killed_leaves_what_the_next_one_goes_on_from(tmp_path: Path, memory: str) -> None:
    data = training_set(tmp_path / "data", "binary")
    trainer = TRAINER.model_copy(update={"memory": memory})
    whole = fit(trainer, data, workdir=tmp_path / "whole")

    command = [
        sys.executable,
        "-m",
        "tests.train.xgboost.driver",
        tmp_path / "data",
        tmp_path / "work",
        "11",
        memory,
    ]
    ended = subprocess.run(command, check=False)
    left = [path.name for path in tmp_path.glob("work/checkpoints/*")]
    model = fit(trainer, data, workdir=tmp_path / "work")

    assert ended.returncode == -9
    assert left == ["000000000007.checkpoint"]
    assert model.scorer.ubj == whole.scorer.ubj
    assert not list((tmp_path / "work").iterdir())


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, caplog: Any) -> None:
    data = training_set(tmp_path / "data", "binary")
    whole = fit(TRAINER, data, workdir=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(TRAINER, data, workdir=tmp_path / "work", recorder=Stops(17))
    newest = max((tmp_path / "work" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])

    model = fit(TRAINER, data, workdir=tmp_path / "work")

    assert model.scorer.ubj == whole.scorer.ubj
    assert f"the checkpoint {newest} is damaged and is passed over" in caplog.text


@pytest.mark.parametrize("other", ["settings", "rows", "edges"])
def test_a_checkpoint_of_another_training_is_refused(
    tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training_set(tmp_path / "data", "binary")
    with pytest.raises(KeyboardInterrupt):
        fit(TRAINER, data, workdir=tmp_path / "work", recorder=Stops(17))
    trainer = TRAINER.model_copy(update={"max_depth": 5}) if other == "settings" else TRAINER
    if other == "edges":
        monkeypatch.setattr("mlflow_core.train.xgboost.fit.EDGES_FORMAT", 1)
    if other == "rows":
        data = training_set(tmp_path / "data", "binary", rows=1900)

    with pytest.raises(TrainError, match="the checkpoint is of another training"):
        fit(trainer, data, workdir=tmp_path / "work")


@pytest.mark.parametrize(
    "more",
    [
        {"booster": "dart", "rate_drop": 0.4},
        {"grow_policy": "lossguide", "max_leaves": 9},
        {"num_parallel_tree": 2},
        {"objective": "multi:softprob", "num_class": 3, "eval_metric": "mlogloss"},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.8], "eval_metric": "quantile"},
        {"objective": "reg:absoluteerror", "eval_metric": "mae"},
    ],
    ids=lambda more: "-".join(str(value) for value in more.values()),
)
def test_every_kind_of_trees_goes_on_from_each_segment_to_the_same_bytes(more: dict[str, Any]) -> None:
    random = np.random.default_rng(8)
    values = random.normal(size=(1500, 6)).astype(np.float32)
    label = np.clip(np.round(values[:, 0] + random.normal(0, 0.5, 1500)), 0, 2)
    settings = SETTINGS | {"nthread": 1} | more
    if settings["objective"] == "binary:logistic":
        label = (label > 0).astype(float)
    plan = Plan(settings, rounds=17, every=5)
    train = xgboost.QuantileDMatrix(values[:1000], label[:1000])
    validate = xgboost.QuantileDMatrix(values[1000:], label[1000:], ref=train)
    states: list[State] = []

    whole = boost(plan, train, validate, State(), after_round=lambda *_: None, after_segment=states.append)

    assert [state.rounds for state in states] == [5, 10, 15]
    for state in states:
        # Matrices of its own, as another process has them: what XGBoost remembers of the first ones is not there.
        again = xgboost.QuantileDMatrix(values[:1000], label[:1000])
        other = xgboost.QuantileDMatrix(values[1000:], label[1000:], ref=again)
        resumed = boost(plan, again, other, state, after_round=lambda *_: None, after_segment=lambda _: None)
        assert resumed.state.booster == whole.state.booster
        assert resumed.state.history == whole.state.history


@pytest.mark.parametrize("metric", ["auc", "logloss", "ndcg@5", "mape"])
def test_stopping_early_is_decided_as_xgboost_decides_it(metric: str) -> None:
    greater = metric in ("auc", "ndcg@5")
    random = np.random.default_rng(4)
    for _ in range(50):
        values = np.round(random.random(30), 1).tolist()  # with ties
        callback = xgboost.callback.EarlyStopping(rounds=4, save_best=False)
        booster = xgboost.train({}, xgboost.DMatrix(np.zeros((2, 1)), np.zeros(2)), 0)
        callback.before_training(booster)
        theirs = next(
            (n for n in range(30) if callback.after_iteration(booster, n, {"v": {metric: values[: n + 1]}})),
            None,
        )
        ours = next((n for n in range(30) if is_over({metric: values[: n + 1]}, 4)), None)
        assert ours == theirs
        seen = values if ours is None else values[: ours + 1]
        assert best_round({metric: seen}) == int(booster.attr("best_iteration"))
        assert seen[best_round({metric: seen})] == (max(seen) if greater else min(seen))
