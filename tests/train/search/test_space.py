"""Settings that are searched: each name and value is one of the trainer's, or is refused before anything runs."""

from __future__ import annotations

import pytest

from mlflow_core.errors import SpecError
from mlflow_core.spec.network import MLP
from mlflow_core.spec.search import Choice, Dimension, Float, Int, LogFloat, Search
from mlflow_core.spec.trainer import Family, Torch, Trainer, XGBoost
from mlflow_core.train.search.space import apply_settings, space_of


def test_settings_reach_fields_parameters_networks_and_members() -> None:
    boosted = apply_settings(
        XGBoost(params={"gamma": 0.1, "alpha": 1}), {"max_depth": 3, "params.gamma": 0.5}
    )
    network = apply_settings(
        Torch(module=MLP(hidden=(8,)), ema=0.9), {"module.dropout": 0.2, "module.members": 4, "ema": None}
    )
    family = apply_settings(
        Family(trainer=XGBoost(), by=("origin",)), {"trainer.max_depth": 2, "least_rows": 9}
    )
    named = apply_settings(Torch(module="mine:Net", arguments={"a": 1}), {"arguments.width": 64})

    assert boosted == XGBoost(max_depth=3, params={"gamma": 0.5, "alpha": 1})
    assert network == Torch(module=MLP(hidden=(8,), dropout=0.2, members=4))
    assert family == Family(trainer=XGBoost(max_depth=2), by=("origin",), least_rows=9)
    assert named.arguments == {"a": 1, "width": 64}


@pytest.mark.parametrize(
    ("trainer", "name", "dimension", "message"),
    [
        (XGBoost(), "max_dept", Int(2, 8), '"max_dept" is not a setting of XGBoost.*Did you mean "max_depth"'),
        (XGBoost(), "max_depth.x", Int(2, 8), '"max_depth.x" is not a setting of XGBoost'),
        (XGBoost(), "params", Int(2, 8), '"params" holds several settings.*Name one of them'),
        (XGBoost(), "recovery.restarts", Int(2, 8), "is not searched: it changes no model"),
        (XGBoost(), "workers", Int(2, 8), "is not searched: a trial trains with one rank"),
        (XGBoost(), "kind", Choice(["torch"]), "is not searched: which trainer"),
        (XGBoost(), "max_depth", Float(2, 8), "holds 3.9.*, which the trainer refuses"),
        (XGBoost(), "learning_rate", Float(0, 1), "holds 0.0, which the trainer refuses"),
        (XGBoost(), "subsample", Float(0.5, 1.5), "holds 1.5, which the trainer refuses"),
        (XGBoost(), "max_depth", Choice([3, "deep"]), "holds 'deep', which the trainer refuses"),
        (Torch(module=MLP()), "module.dropuot", Float(0, 0.5), 'Did you mean "module.dropout"'),
        (Torch(module=MLP()), "module.kind", Choice(["gru"]), '"module.kind" is not a setting of Torch'),
        (Torch(module=MLP()), "arguments.x", Int(1, 2), '"arguments" goes with a module named by import path'),
        (Family(trainer=XGBoost(), by=("o",)), "max_depth", Int(2, 8), 'Did you mean "trainer.max_depth"'),
    ],
)  # fmt: skip
def test_a_name_or_value_that_the_trainer_does_not_take_is_refused(
    trainer: Trainer, name: str, dimension: Dimension, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as refused:
        space_of(trainer, Search(space={name: dimension}))
    assert "test_space.py" in str(refused.value)  # where the search was declared


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            {"max_dept": 3},
            'the settings 0 of "start" name "max_dept", which is not searched.*Did you mean "max_depth"',
        ),
        ({"max_depth": 9}, r'"start" have 9 for "max_depth".*Expected a value of Int\(2, 8\)'),
        ({"max_depth": 3.0}, 'have 3.0 for "max_depth"'),
        ({"max_depth": True}, 'have True for "max_depth"'),
        ({"learning_rate": "high"}, "have 'high' for"),
        ({"params.tree_method": "exact"}, "have 'exact' for"),
    ],
)
def test_first_settings_outside_the_space_are_refused(start: dict[str, object], message: str) -> None:
    space = {
        "max_depth": Int(2, 8),
        "learning_rate": LogFloat(0.01, 0.3),
        "params.tree_method": Choice(["hist", "approx"]),
    }

    with pytest.raises(SpecError, match=message):
        space_of(XGBoost(), Search(space=space, start=(start,)))

    space_of(XGBoost(), Search(space=space, start=({"max_depth": 2, "learning_rate": 0.3},)))


def test_the_space_is_optunas_whatever_the_order_it_was_written_in() -> None:
    one = {"a": Int(1, 8, log=True), "b": Float(0, 1), "c": LogFloat(0.1, 1), "d": Choice(["x", None, 3])}
    search = Search(space={f"params.{name}": dimension for name, dimension in one.items()})
    turned = Search(space=dict(reversed(search.space.items())))

    assert list(space_of(XGBoost(), turned).dimensions) == list(space_of(XGBoost(), search).dimensions)
    found = space_of(XGBoost(), search).distributions()
    assert [str(found[f"params.{name}"]) for name in one] == [
        "IntDistribution(high=8, log=True, low=1, step=1)",
        "FloatDistribution(high=1.0, log=False, low=0.0, step=None)",
        "FloatDistribution(high=1.0, log=True, low=0.1, step=None)",
        "CategoricalDistribution(choices=('x', None, 3))",
    ]
