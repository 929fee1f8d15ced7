"""An evaluation that is kept as files comes back as it was, to the bit; what is no such folder is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.bootstrap import DAY_US
from mlflow_core.train.evaluation.evaluate import Evaluation, evaluate
from mlflow_core.train.evaluation.kept import keep_evaluation, kept_evaluation, kept_predictions

RANDOM = np.random.default_rng(5)
P = RANDOM.random(400)
SAID = {"model": P, "of/another name": RANDOM.random(400)}


def measured() -> Evaluation:
    y = (np.random.default_rng(6).random(400) < P).astype(float)
    columns = pa.table({"origin": ["EWR"] * 380 + ["JFK"] * 20})
    times = np.arange(400) * (DAY_US // 20)
    return evaluate(y, SAID, ["auc", "log_loss"], columns, times=times, count=50, seed=7)


def test_an_evaluation_comes_back_to_the_bit(tmp_path: Path) -> None:
    one = measured()

    again = kept_evaluation(keep_evaluation(tmp_path / "kept", one, SAID))

    assert again.to_json() == one.to_json()
    assert set(again.draws) == set(one.draws)
    np.testing.assert_array_equal(again.values, one.values)
    for unit, draws in one.draws.items():
        np.testing.assert_array_equal(again.draws[unit], draws)
    assert again.slices == one.slices
    assert list(kept_predictions(tmp_path / "kept", again)) == list(SAID)
    for name, said in kept_predictions(tmp_path / "kept", again).items():
        np.testing.assert_array_equal(said, SAID[name])


def test_one_evaluation_gives_the_same_files(tmp_path: Path) -> None:
    folders = [keep_evaluation(tmp_path / name, measured(), SAID) for name in ("one", "two")]

    files = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]

    assert files[0] == files[1]


@pytest.mark.parametrize("text", [None, "no JSON", "{}", "[]", '{"models": null}'])
def test_a_folder_that_is_of_no_evaluation_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "figures.json").write_text(text)

    with pytest.raises(TrainError, match="is not the folder of an evaluation"):
        kept_evaluation(tmp_path)


def test_predictions_that_were_not_kept_are_told(tmp_path: Path) -> None:
    one = measured()

    with pytest.raises(TrainError, match=r"predictions-0\.npy: is not there, or no array"):
        kept_predictions(keep_evaluation(tmp_path / "kept", one), one)
