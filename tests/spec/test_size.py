"""Sizes as they are declared: a text with its unit, a number of bytes inside, and an error that says what is missing."""

from __future__ import annotations

import pickle

import pytest

import mlflow_core as ml
from mlflow_core.errors import SpecError
from mlflow_core.spec import MLP
from mlflow_core.spec.size import Size


def test_a_size_is_bytes_and_keeps_its_text() -> None:
    made = Size(" 1.5GiB ")

    assert (int(made), str(made), repr(made)) == (3 << 29, "1.5GiB", "Size('1.5GiB')")
    assert made == Size("1536 MiB")
    assert pickle.loads(pickle.dumps(made)).text == "1.5GiB"


def test_a_trainer_takes_it_as_text_writes_it_as_text_and_does_without() -> None:
    trainer = ml.XGBoost(memory_per_worker="2GiB", memory="external")

    assert trainer.memory_per_worker == 2 << 30
    assert trainer.model_dump(mode="json")["memory_per_worker"] == "2GiB"
    assert ml.XGBoost.from_json(trainer.canonical_json()) == trainer
    assert eval(repr(trainer), {"XGBoost": ml.XGBoost}) == trainer
    assert ml.XGBoost(memory_per_worker=None) == ml.XGBoost()
    assert ml.XGBoost().canonical_json() == b'{"kind":"xgboost"}'
    assert ml.Torch(module=MLP(), memory_per_worker="500MB").memory_per_worker == 500_000_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (2048, 'field "memory_per_worker".*is not a size; write it with its unit, as "2048B" or'),
        ("2 gigabytes", 'field "memory_per_worker".*"2 gigabytes" is no size.*20 GiB or 500MB'),
    ],
)
def test_what_is_no_size_is_told_with_the_field(given: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ml.XGBoost(memory_per_worker=given)
