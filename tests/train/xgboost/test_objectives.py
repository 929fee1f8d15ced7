"""Each family of objectives: what one rank learns equals plain ``xgboost.train``, and two ranks learn about the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.models.model import Model
from tests.train.made import fit
from tests.train.xgboost.rows import column, plain, sizes, training_set


@dataclass(frozen=True)
class Case:
    label: str
    trainer: dict[str, Any]
    settings: dict[str, Any]
    task: str
    columns: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    far: float = 0.2  # how far two ranks may be from one, as a share of the predictions' spread


def _both(rows: Any) -> Any:
    return np.column_stack([column("amount")(rows), column("other")(rows)])


def _two_flags(rows: Any) -> Any:
    return np.column_stack([column("binary")(rows), column("second")(rows)])


def _weights(weights: dict[float, float], name: str) -> Any:
    return lambda rows: np.vectorize(weights.get)(column(name)(rows))


def _balanced_of_training_rows(rows: Any) -> Any:
    # The training part of training_set(): what the validation rows are like does not matter to a balance.
    from tests.train.xgboost.rows import table

    labels = column("class")(table(2000, 1))
    classes, counts = np.unique(labels, return_counts=True)
    weights = {c: len(labels) / (len(classes) * n) for c, n in zip(classes, counts, strict=True)}
    return np.vectorize(weights.get)(column("class")(rows))


CASES = {
    "squared error": Case("amount", {"objective": "reg:squarederror"}, {}, "regression"),
    "absolute error": Case("amount", {"objective": "reg:absoluteerror"}, {}, "regression", far=0.3),
    "pseudo Huber": Case("amount", {"objective": "reg:pseudohubererror"}, {}, "regression"),
    "shares": Case("share", {"objective": "reg:logistic"}, {}, "regression"),
    "gamma": Case("positive", {"objective": "reg:gamma"}, {}, "regression"),
    "tweedie": Case("positive", {"objective": "reg:tweedie", "params": {"tweedie_variance_power": 1.3}}, {}, "regression"),
    "counts": Case("count", {"objective": "count:poisson"}, {}, "regression"),
    "binary": Case("binary", {"objective": "binary:logistic", "metric": "auc"}, {}, "classification"),
    "weights": Case("binary", {"objective": "binary:logistic", "weight": "heavy"}, {}, "classification", {"weight": column("heavy")}),
    "weights of classes": Case(
        "binary", {"objective": "binary:logistic", "class_weights": {"0": 1.0, "1": 3.0}}, {}, "classification",
        {"weight": _weights({0.0: 1.0, 1.0: 3.0}, "binary")},
    ),
    "classes": Case(
        "class", {"objective": "multi:softprob", "classes": 3}, {"num_class": 3}, "multiclass", outputs=("0", "1", "2"),
    ),
    "balanced classes": Case(
        "class", {"objective": "multi:softprob", "classes": 3, "class_weights": "balanced"}, {"num_class": 3},
        "multiclass", {"weight": _balanced_of_training_rows}, ("0", "1", "2"),
    ),
    "quantiles": Case(
        "amount", {"objective": "reg:quantileerror", "quantiles": (0.1, 0.5, 0.9)},
        {"quantile_alpha": [0.1, 0.5, 0.9]}, "quantile", outputs=("0.1", "0.5", "0.9"), far=0.3,
    ),
    "one quantile": Case(
        "amount", {"objective": "reg:quantileerror", "quantiles": (0.9,)}, {"quantile_alpha": 0.9}, "quantile", far=0.3
    ),
    "targets": Case(
        "amount", {"objective": "reg:squarederror", "targets": ("other",)}, {}, "regression", {"label": _both}, ("amount", "other"),
    ),
    "several labels": Case(
        "binary", {"objective": "binary:logistic", "targets": ("second",)}, {}, "classification", {"label": _two_flags},
        ("binary", "second"),
    ),
    "accelerated failure": Case(
        "lower", {"objective": "survival:aft", "bounds": ("lower", "upper")}, {}, "survival",
        {"label_lower_bound": column("lower"), "label_upper_bound": column("upper")}, far=0.3,
    ),
    "proportional hazards": Case("signed", {"objective": "survival:cox"}, {}, "survival"),
    "ranking": Case("grade", {"objective": "rank:ndcg", "group": "query"}, {}, "ranking", {"group": sizes("query")}, far=0.4),
    "pairs": Case("grade", {"objective": "rank:pairwise", "group": "query"}, {}, "ranking", {"group": sizes("query")}, far=0.4),
    "monotone": Case(
        "amount", {"objective": "reg:squarederror", "monotone": {"two": 1, "one": -1}},
        {"monotone_constraints": "(-1,1,0,0,0)"}, "regression",
    ),
    "few categories at a time": Case(
        "amount", {"objective": "reg:squarederror", "params": {"max_cat_to_onehot": 2, "max_cat_threshold": 3}}, {}, "regression",
    ),
    "interactions": Case(
        "amount", {"objective": "reg:squarederror", "params": {"interaction_constraints": [["one", "two"], ["kind", "three"]]}},
        {}, "regression",
    ),
    "leaf by leaf": Case(
        "amount", {"objective": "reg:squarederror", "params": {"grow_policy": "lossguide", "max_leaves": 11}}, {}, "regression",
    ),
    "drop-outs": Case(
        "amount", {"objective": "reg:squarederror", "params": {"booster": "dart", "rate_drop": 0.3}}, {}, "regression", far=0.5,
    ),
    "forest": Case(
        "amount", {"objective": "reg:squarederror", "params": {"num_parallel_tree": 3}}, {}, "regression",
    ),
}  # fmt: skip


def _ours(case: Case, data: Any, folder: Path, **more: Any) -> Model:
    client = more.pop("client", None)
    trainer = XGBoost(rounds=12, max_depth=4, seed=5, **(case.trainer | more))
    return fit(trainer, data, workdir=folder, client=client)


@pytest.mark.parametrize("name", CASES)
def test_one_rank_learns_what_plain_xgboost_learns(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    data = training_set(tmp_path / "data", case.label)
    settings = {
        "objective": case.trainer["objective"],
        "max_depth": 4,
        "seed": 5,
        **case.settings,
        **case.trainer.get("params", {}),
    }
    if "metric" in case.trainer:
        settings["eval_metric"] = case.trainer["metric"]
    columns = {"label": column(case.label)} | case.columns
    if "label_lower_bound" in columns:
        del columns["label"]

    _, theirs, log = plain(data, settings, columns, rounds=12)
    model = _ours(case, data, tmp_path / "work")

    ours = model.predict(data.read("test"))
    assert model.task == case.task
    assert model.outputs == case.outputs
    assert ours.shape == ((len(ours), len(case.outputs)) if case.outputs else (len(ours),))
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)
    assert model.history.keys() == log.keys()
    for metric, values in log.items():
        np.testing.assert_allclose(model.history[metric], values, rtol=1e-5)


FEW = ("binary", "classes", "quantiles", "ranking", "accelerated failure")
MANY = [
    pytest.param(one, marks=() if one in FEW else pytest.mark.long)
    for one in CASES
    if one != "proportional hazards"
]


@pytest.mark.parametrize("name", MANY)
def test_two_ranks_learn_about_what_one_learns(tmp_path: Path, client: Client, name: str) -> None:
    case = CASES[name]
    data = training_set(tmp_path / "data", case.label)

    one = _ours(case, data, tmp_path / "one").predict(data.read("test"))
    two = _ours(case, data, tmp_path / "two", workers=2, client=client).predict(data.read("test"))

    assert one.shape == two.shape
    apart = np.sqrt(np.mean((one - two) ** 2)) / max(float(np.std(one)), 1e-6)
    print(f"{name}: two ranks are {apart:.4f} of the spread from one")
    assert apart < case.far
