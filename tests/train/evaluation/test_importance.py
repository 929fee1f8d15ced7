"""Importance: what matters is found, a sequence is one feature, queries stay whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.spec.trainer import Family, XGBoost
from mlflow_core.train.data.preprocess import Feature
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.importance import importance, sampled
from mlflow_core.train.evaluation.truth import Truth
from mlflow_core.train.models.model import Model
from tests.train.evaluation.all_targets import of_all_targets
from tests.train.evaluation.linear import linear
from tests.train.made import fit

LEGS = Feature("legs", "number", "list<item: double>", length=3)
WIND = Feature("wind", "number", "double")


def rows_of(n: int, seed: int = 1) -> pa.Table:
    random = np.random.default_rng(seed)
    legs = [random.normal(size=random.integers(0, 4)).tolist() for _ in range(n)]
    return pa.table({"legs": pa.array(legs, pa.list_(pa.float64())), "wind": random.normal(size=n)})


def test_gain_adds_up_and_permutation_finds_what_matters(model: Model, data: TrainingData) -> None:
    test = data.read("test")

    found = importance(model, test, test.column("label").to_numpy().astype(float), rows=600)

    assert sum(model.scorer.importance().values()) == pytest.approx(1)
    assert sum(one.gain for one in found) == pytest.approx(1)
    assert {one.feature for one in found} == set(model.features)
    assert found[0].feature == "delay"
    assert found[0].permutation > 0.05


def test_the_columns_of_a_sequence_are_shuffled_together() -> None:
    model, rows = linear((LEGS, WIND), (1.0, -1.0, 1.0, 0.0, 0.2)), rows_of(4000)
    y = model.predict(rows)

    found = importance(model, rows, y, metric="rmse", repeats=2)

    # Shuffled as one, the prediction moves by two draws of the whole sum: the error is its deviation times sqrt(2).
    sums = model.score(model.preprocessing.matrix(rows)) - 0.2 * rows["wind"].to_numpy()
    assert [one.feature for one in found] == ["legs", "wind"]
    assert found[0].permutation == pytest.approx(np.sqrt(2) * sums.std(), rel=0.05)
    assert found[1].permutation == pytest.approx(np.sqrt(2) * 0.2 * rows["wind"].to_numpy().std(), rel=0.05)
    assert np.isnan(found[0].gain)


def test_a_ranking_is_sampled_by_whole_queries() -> None:
    queries = np.random.default_rng(2).integers(0, 40, 400)

    chosen = sampled(queries, 400, 100, np.random.default_rng(3))

    assert 70 <= len(chosen) <= 100
    assert all((queries == one).sum() == (queries[chosen] == one).sum() for one in np.unique(queries[chosen]))
    assert sampled(None, 400, 100, np.random.default_rng(3)).shape == (100,)
    assert sampled(np.zeros(50, np.int64), 50, 10, np.random.default_rng(3)).shape == (
        50,
    )  # one query stays whole
    rows = rows_of(400)
    model = replace(linear((LEGS, WIND), (0.0, 0.0, 0.0, 0.0, 1.0)), task="ranking")
    truth = Truth((rows["wind"].to_numpy() > 0).astype(float), "ranking", queries=queries)
    found = importance(model, rows, truth, metric="ndcg@5", rows=100)
    assert found[0].feature == "wind"
    assert found[0].permutation > 0.1 > abs(found[1].permutation)


def test_a_family_s_key_is_worth_what_choosing_the_wrong_model_costs(
    data: TrainingData, tmp_path: Path
) -> None:
    trainer = Family(trainer=XGBoost(rounds=20, max_depth=3), by=("late",), least_rows=10)
    family, test = fit(trainer, data, workdir=tmp_path), data.read("test")

    found = importance(family, test, test.column("label").to_numpy().astype(float))

    key = next(one for one in found if one.feature == "late")
    assert key.gain == 0, "no member's tree looks at what is the same in all its rows"
    assert key.permutation > 0.01


def test_trees_for_all_targets_at_once_have_importance(tmp_path: Path) -> None:
    model, rows = of_all_targets(tmp_path)

    truth = Truth(np.column_stack([rows["amount"], rows["label"]]).astype(float), "regression")
    found = importance(model, rows, truth, metric="rmse", repeats=1)

    assert found[0].permutation > 0
