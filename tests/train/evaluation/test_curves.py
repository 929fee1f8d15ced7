"""What plots and tables rest on: coverage of quantiles, confusion, reliability by class and of quantities."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as theirs

from mlflow_core.train.evaluation.curves import (
    calibration,
    class_calibrations,
    confusion,
    coverages,
    interval_coverages,
    predicted_bins,
)
from tests.train.evaluation.cases import made


def test_quantiles_of_the_true_law_cover_what_they_promise() -> None:
    random = np.random.default_rng(6)
    centre = random.normal(0, 3, 20_000)
    y = centre + random.normal(0, 1, 20_000)
    levels = (0.9, 0.1, 0.5)
    said = centre[:, None] + np.array([1.2815516, -1.2815516, 0.0])

    found, between = coverages(y, said, levels), interval_coverages(y, said, levels)

    assert [one.level for one in found] == [0.1, 0.5, 0.9]
    for one in found:
        assert one.low < one.observed < one.high
        assert one.observed == pytest.approx(one.level, abs=0.01)
    assert [(one.lower, one.upper) for one in between] == [(0.1, 0.9)]
    assert between[0].observed == pytest.approx(0.8, abs=0.01)
    assert between[0].width == pytest.approx(2 * 1.2815516)
    assert [(one.lower, one.upper) for one in interval_coverages(y, said[:, :1], (0.9,))] == []


def test_a_confusion_matrix_is_the_one_of_scikit_learn() -> None:
    truth, said = made("multiclass", 3, 200)

    assert confusion(truth.y, said).tolist() == theirs.confusion_matrix(truth.y, said.argmax(axis=1)).tolist()


def test_a_class_is_calibrated_as_a_binary_label_of_its_own() -> None:
    truth, said = made("multiclass", 3, 500)

    found = class_calibrations(truth.y, said, bins=5)

    assert len(found) == 3
    assert found[1] == calibration((truth.y == 1).astype(float), said[:, 1], bins=5)


def test_bins_of_a_quantity_hold_all_rows_once_and_their_means() -> None:
    truth, said = made("regression", 2, 300)
    said = np.round(said)  # ties

    found = predicted_bins(truth.y, said, bins=6)

    assert sum(one.rows for one in found) == 300
    assert sum(one.rows * one.observed for one in found) / 300 == pytest.approx(truth.y.mean())
    assert [one.predicted for one in found] == sorted(one.predicted for one in found)
    assert all(one.low <= one.observed <= one.high for one in found)
