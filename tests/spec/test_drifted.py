"""A drift as it is declared: what can be meant, what cannot, and its JSON."""

from __future__ import annotations

from typing import Any

import pytest

import mlflow_core as ml
from mlflow_core.errors import SpecError


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"by": 0}, '"by" is 0.0; a distance that is too far is a number above 0'),
        ({"by": -0.1}, '"by" is -0.1'),
        ({"by": float("nan")}, '"by" is nan'),
        ({"by": float("inf")}, '"by" is inf'),
        ({"over": "0s"}, '"over" is 0s; it has to reach back'),
        ({"over": "-7d"}, '"over" is -7d'),
        ({"over": 7}, "is not a length of time"),
        ({"features": ["a", "b", "a"]}, '"features" names a twice'),
        ({"at_least": 0}, '"at_least" is 0; one feature at least'),
        ({"features": ["a"], "at_least": 2}, '"at_least" is 2, and "features" names 1 of them'),
        ({"look": "1ms"}, '"look" is 1ms'),
        ({"buy": 0.2}, "buy"),
    ],
)
def test_a_drift_that_cannot_be_meant_is_told_where_it_is_declared(
    arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(SpecError) as error:
        ml.Drifted(**arguments)

    assert told in str(error.value)
    assert "test_drifted.py:" in str(error.value)


def test_a_schedule_with_a_drift_is_read_back_from_its_json() -> None:
    for when in (ml.Drifted(), ml.Drifted(by=0.3, over="14d", features=["delay"], look="6h")):
        said = ml.Schedule(when=when, at_most_every="1d")
        assert ml.Schedule.from_json(said.canonical_json()) == said


@ml.step
def one() -> int:
    return 1


def test_steps_alone_have_nothing_to_drift_from() -> None:
    with pytest.raises(SpecError, match="a pipeline of steps alone trains none"):
        ml.Pipeline("steps", steps=[one()], schedule=ml.Schedule(when=ml.Drifted()))
