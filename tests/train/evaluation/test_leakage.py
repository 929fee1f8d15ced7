"""Leaks and drift that were put there are found, named and graded; what is clean stays silent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.evaluation.drift import DriftLimits, find_drift
from mlflow_core.train.evaluation.leakage import LeakageLimits, find_leakage
from mlflow_core.train.evaluation.sampling import read_sample
from tests.train.made import table, write

BASE = (
    Feature("delay", "number", "double"),
    Feature("gust", "number", "float"),
    Feature("late", "bool", "bool"),
    Feature("carrier", "category", "string", categories=("AA", "B6", "DL", "UA")),
)


def with_column(rows: pa.Table, name: str, values: object) -> pa.Table:
    return rows.append_column(name, pa.array(values))


def labels(rows: pa.Table) -> np.ndarray:
    return rows["label"].to_numpy(zero_copy_only=False).astype(float)


def found_with(leak, kind: str = "number", label: str = "label", **more: object):
    """The findings where ``leak(rows, random)`` is a feature."""
    random = np.random.default_rng(8)
    train, test = table(3000, 1), table(1500, 2)
    train, test = (with_column(one, "leak", leak(one, random)) for one in (train, test))
    feature = Feature("leak", kind, "any", categories=("no", "yes") if kind == "category" else ())
    return find_leakage(Preprocessing((*BASE, feature)), train, test, label, **more)


def test_a_clean_training_set_has_no_findings() -> None:
    train, test = table(3000, 1), table(1500, 2)

    assert find_leakage(Preprocessing(BASE), train, test, "label") == ()
    assert find_leakage(Preprocessing(BASE), train, test, "amount", limits=LeakageLimits(r2=0.99)) == ()


@pytest.mark.parametrize(
    ("leak", "kind", "check", "severity", "says"),
    [
        (
            lambda rows, _: labels(rows),
            "number",
            "is_the_label",
            "critical",
            "is the label itself, in every row",
        ),
        (
            lambda rows, _: rows["label"].to_pylist(),
            "bool",
            "is_the_label",
            "critical",
            "is the label itself",
        ),
        (
            lambda rows, random: 30 - 40 * labels(rows) + random.random(len(rows)),
            "number",
            "is_the_label",
            "critical",
            "gives the label by a threshold",
        ),
        (
            lambda rows, random: [
                None if u < 0.2 else float(y)
                for y, u in zip(labels(rows), random.random(len(rows)), strict=True)
            ],
            "number",
            "is_the_label",
            "critical",
            "where it is not missing",
        ),
        (
            lambda rows, random: np.where(random.random(len(rows)) < 0.95, labels(rows), 1 - labels(rows)),
            "number",
            "predicts_alone",
            "warning",
            "known only after the label",
        ),
        (
            # Far from 0 in either direction if positive: no order, but a bin's mean knows.
            lambda rows, random: (
                np.where(labels(rows) == 1, 1, 0.1) * random.choice([-1, 1], len(rows))
                + random.normal(0, 0.05, len(rows))
            ),
            "number",
            "predicts_alone",
            "critical",
            "alone reaches AUC",
        ),
        (
            lambda rows, _: [None if y else "no" for y in labels(rows)],  # only its absence tells
            "category",
            "predicts_alone",
            "critical",
            "alone reaches AUC 1.0000",
        ),
    ],
)
def test_a_feature_that_knows_the_label_is_named(
    leak, kind: str, check: str, severity: str, says: str
) -> None:
    found = found_with(leak, kind)

    assert [(one.check, one.severity, one.subject) for one in found] == [(check, severity, "leak")]
    assert says in found[0].sentence
    json.dumps([one.to_json() for one in found], allow_nan=False)


def test_a_quantity_on_another_scale_or_nearly_known_is_named() -> None:
    scaled = found_with(lambda rows, _: 7 - 3 * rows["amount"].to_numpy(), label="amount")
    nearly = found_with(
        lambda rows, random: rows["amount"].to_numpy() + random.normal(0, 8, len(rows)), label="amount"
    )

    assert scaled[0].severity == "critical"
    assert "is the label on another scale" in scaled[0].sentence
    assert [one.subject for one in nearly if one.check == "predicts_alone"] == ["leak"]
    assert {one.severity for one in nearly} == {"warning"}


def test_limits_decide_what_is_told() -> None:
    def noisy(rows: pa.Table, random: np.random.Generator) -> np.ndarray:
        return np.where(random.random(len(rows)) < 0.95, labels(rows), 1 - labels(rows))

    assert found_with(noisy, limits=LeakageLimits(auc=0.97)) == ()
    assert found_with(noisy, limits=LeakageLimits(critical_auc=0.94))[0].severity == "critical"


def test_test_rows_of_the_training_part_are_counted() -> None:
    train, test = table(3000, 1), table(1500, 2)
    mixed = pa.concat_tables([test.slice(0, 1350), train.slice(100, 150)])

    found = find_leakage(Preprocessing(BASE), train, mixed, "label")

    assert [(one.check, one.severity) for one in found] == [("same_rows", "warning")]
    assert found[0].value == pytest.approx(0.1, abs=0.002)
    assert find_leakage(Preprocessing(BASE), train, train, "label")[0].severity == "critical"


def test_rows_of_few_coarse_features_may_be_equal() -> None:
    coarse = Preprocessing(BASE[2:])  # a boolean and a carrier: ten kinds of rows

    assert find_leakage(coarse, table(3000, 1), table(1500, 2), "label") == ()


def test_test_rows_with_the_keys_of_training_rows_are_counted() -> None:
    train, test = table(3000, 1), table(1500, 2)
    train = with_column(train, "flight", np.arange(3000))
    test = with_column(test, "flight", np.arange(1500) + 2985)

    found = find_leakage(Preprocessing(BASE), train, test, "label", keys=("flight",))

    assert [(one.check, one.severity) for one in found] == [("same_keys", "critical")]
    assert found[0].value == pytest.approx(15 / 1500)
    timed = find_leakage(Preprocessing(BASE), train, test, "label", keys=("event_timestamp", "flight"))
    assert timed == ()


def test_parts_of_one_law_do_not_drift_and_a_shifted_feature_is_named() -> None:
    train, test = table(3000, 1), table(1500, 2)
    stronger = test.set_column(
        test.column_names.index("gust"), "gust", pa.array(test["gust"].to_numpy() * 1.8)
    )

    same = find_drift(Preprocessing(BASE), train, test, "label")
    moved = find_drift(Preprocessing(BASE), train, stronger, "label")

    assert same.auc < 0.55
    assert same.findings == ()
    assert moved.auc > 0.7
    assert moved.features[0][0] == "gust"
    assert moved.features[0][1] > 0.6
    assert sum(share for _, share in moved.features) == pytest.approx(1)
    assert [(one.check, one.subject) for one in moved.findings] == [("drift", "test")]
    assert "gust" in moved.findings[0].sentence
    assert (
        find_drift(Preprocessing(BASE), train, stronger, "label", limits=DriftLimits(info=0.95)).findings
        == ()
    )
    json.dumps(moved.to_json(), allow_nan=False)


def test_drift_of_a_category_and_of_what_is_missing_is_found() -> None:
    train, test = table(3000, 1), table(1500, 2)
    one_carrier = test.set_column(test.column_names.index("carrier"), "carrier", pa.array(["UA"] * 1500))
    gone = test.set_column(test.column_names.index("delay"), "delay", pa.array([None] * 1500, pa.float64()))

    assert find_drift(Preprocessing(BASE), train, one_carrier, "label").features[0][0] == "carrier"
    without = find_drift(Preprocessing(BASE), train, gone, "label")
    assert without.features[0][0] == "delay"
    assert without.findings[0].severity == "warning"


def test_a_shifted_label_is_told_and_chance_is_not() -> None:
    train, test = table(3000, 1), table(1500, 2)
    y = labels(test)
    y[np.flatnonzero(y == 0)[:250]] = 1
    shifted = test.set_column(test.column_names.index("label"), "label", pa.array(y == 1))

    found = find_drift(Preprocessing(BASE), train, shifted, "label")

    assert [one.check for one in found.findings] == ["label_shift"]
    assert found.label == (pytest.approx(labels(train).mean()), pytest.approx(y.mean()))
    few = find_drift(Preprocessing(BASE), train.slice(0, 30), test.slice(0, 30), "label")
    assert np.isnan(few.auc)
    assert few.findings == ()


def test_a_sample_is_spread_over_all_row_groups_and_a_small_part_is_read_whole(tmp_path: Path) -> None:
    parts = {"train": [with_column(table(5000, 1), "row", np.arange(5000))]}
    data = write(tmp_path / "d", parts, row_group_size=250)

    sample = read_sample(data, "train", 400, ["row"])

    rows = sample["row"].to_numpy()
    assert 350 <= len(rows) <= 420
    assert len(np.unique(rows)) == len(rows)
    assert (rows.min(), rows.max()) == (0, 4999)
    assert np.histogram(rows, bins=5, range=(0, 5000))[0].min() >= 50
    assert read_sample(data, "train", 5000).num_rows == 5000
    assert read_sample(data, "train", 400, ["row"]).equals(sample)
