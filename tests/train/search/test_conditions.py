"""Conditions on trials: read as arithmetic, never run as code."""

from __future__ import annotations

import math

import pytest

from mlflow_core.errors import SpecError
from mlflow_core.spec.search import Int, Search
from mlflow_core.train.search.conditions import conditions_of

SPACE = {"max_depth": Int(2, 8)}
VALUES = {"max_depth": 4.0, "params.gamma": 0.5, "steps": 120.0, "seconds": 3.0, "value": 0.4, "auc": 0.7}


def _excess(text: str, values: dict[str, float] = VALUES) -> float:
    (condition,) = conditions_of(
        Search(space=SPACE, constraints=(text,)), ["max_depth", "params.gamma"], ["auc"]
    )
    return condition.excess({name: values[name] for name in condition.names})


@pytest.mark.parametrize(
    ("text", "excess"),
    [
        ("steps <= 300", -180.0),
        ("steps <= 100", 20.0),
        ("300 >= steps", -180.0),
        ("auc > 0.75", 0.05),
        ("max_depth * 2 - 1 <= steps / 60", 5.0),
        ("-params.gamma < 0", -0.5),
        ("1 <= max_depth <= 3", 1.0),
        ("max_depth <= 4", 0.0),
        ("(seconds + 1) * (value - 0.4) >= 0", 0.0),
    ],
)
def test_a_condition_tells_by_how_much_it_is_missed(text: str, excess: float) -> None:
    assert _excess(text) == pytest.approx(excess, abs=1e-12)


def test_what_is_equal_misses_a_strict_condition_and_what_is_not_a_number_every_one() -> None:
    assert _excess("max_depth < 4") > 0
    assert _excess("max_depth > 4") > 0
    assert _excess("auc <= 1", VALUES | {"auc": math.nan}) == math.inf
    assert _excess("steps / (max_depth - 4) <= 1") == math.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_dept <= 3", 'names "max_dept".*Did you mean "max_depth"'),
        ("params.gama <= 3", 'names "params.gama".*Did you mean "params.gamma"'),
        ("max_depth", "is not a comparison"),
        ("max_depth <=", "cannot be read"),
        ("max_depth == 3", "may only compare with <, <=, > and >="),
        ("abs(max_depth) <= 3", r'holds "abs\(max_depth\)"'),
        ("__import__('os').system('true') <= 3", "holds"),
        ("max_depth ** 9 <= 3", r'holds "max_depth \*\* 9"'),
        ("max_depth <= 'x'", "holds \"'x'\""),
        ("max_depth <= True", 'holds "True"'),
    ],
)
def test_anything_else_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _excess(text)
