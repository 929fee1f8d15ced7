# ruff: noqa: E501 tables of cases, one a line
"""What no booster can be trained from is refused, in one clear sentence, before a rank starts where that is possible."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from distributed import Client

from mlflow_core.errors import MachineError, TrainError
from mlflow_core.spec.trainer import XGBoost
from tests.train.kept import Kept
from tests.train.made import fit, write
from tests.train.xgboost.rows import FEATURES, table, training_set


def changed(name: str, change: Any, *, part: str, folder: Path, label: str = "amount") -> Any:
    """A training set in which one column of one part is another."""
    parts = {
        one: table(rows, n)
        for n, (one, rows) in enumerate({"train": 300, "validate": 120, "test": 50}.items())
    }
    whole = parts[part]
    values = change(whole.column(name).to_pylist())
    parts[part] = whole.set_column(whole.column_names.index(name), name, pa.array(values))
    return write(
        folder, {one: [rows] for one, rows in parts.items()}, label=label, features=FEATURES, request=()
    )


def first(value: Any) -> Any:
    return lambda values: [value, *values[1:]]


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"objective": "multi:softprob"}, 'the objective "multi:softprob" needs the field "classes"'),
        ({"objective": "multi:softmax", "classes": 3}, r'does not give probabilities. Use "multi:softprob"'),
        ({"objective": "binary:logitraw"}, 'Use "binary:logistic"'),
        ({"objective": "binary:hinge"}, 'gives 0 or 1, not probabilities.*Use "binary:logistic"'),
        ({"objective": "rank:ndcg"}, 'needs the field "group"'),
        ({"group": "query"}, 'the objective "reg:squarederror" does not use the field "group"'),
        ({"objective": "survival:aft"}, 'needs the field "bounds"'),
        ({"objective": "reg:quantileerror"}, 'needs the field "quantiles"'),
        ({"objective": "reg:quantileerror", "quantiles": (0.5, 0.1)}, "quantiles are not in rising order"),
        ({"class_weights": "balanced"}, "goes with an objective that has classes"),
        ({"objective": "survival:cox", "workers": 2}, "compares each row with all others"),
        ({"objective": "rank:ndcg", "group": "query", "targets": ("other",)}, "has one target, not several"),
        ({"monotone": {"tow": 1}}, 'monotone names "tow", which is no feature. Did you mean "two"'),
        ({"params": {"tree_method": "exact"}}, "the settings are refused: .*hist"),
        ({"params": {"booster": "gblinear"}}, "the settings are refused|does not use"),
        ({"early_stopping": 3, "params": {"disable_default_eval_metric": 1}}, "early_stopping watches a metric, and there is none"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_told_before_any_data_is_read(
    tmp_path: Path, trainer: dict[str, Any], message: str
) -> None:
    data = training_set(tmp_path / "data", "amount", rows=100)
    for paths in data.shards.values():
        for path in paths:
            path.unlink()

    with pytest.raises(TrainError, match=message):
        fit(XGBoost(**({"objective": "reg:squarederror"} | trainer)), data, workdir=tmp_path / "work")


RANKING = {"objective": "rank:ndcg", "group": "query"}
AFT = {"objective": "survival:aft", "bounds": ("lower", "upper")}
WEIGHTED = {"weight": "heavy"}


@pytest.mark.parametrize("part", ["train", "validate"])
@pytest.mark.parametrize(
    ("column", "change", "trainer", "label", "message"),
    [
        ("amount", first(float("nan")), {}, "amount", 'label "amount" in the part "{part}" .* is null or NaN 1 times'),
        ("heavy", first(-1.0), WEIGHTED, "amount", 'weight "heavy" in the part "{part}" .* is -1 somewhere'),
        ("heavy", first(None), WEIGHTED, "amount", 'weight "heavy" in the part "{part}" .* null or NaN 1 times'),
        ("heavy", first(float("nan")), WEIGHTED, "amount", 'weight "heavy" in the part "{part}" .* null or NaN 1 times'),
        ("heavy", lambda v: ["x"] * len(v), WEIGHTED, "amount", 'column "heavy" is of type string'),
        ("other", first(None), {"targets": ("other",)}, "amount", 'label "other" in the part "{part}"'),
        ("class", first(3), {"objective": "multi:softprob", "classes": 3}, "class", 'label "class" in the part "{part}" .* has the value 3'),
        ("class", lambda v: [1] * len(v), {"objective": "multi:softprob", "classes": 3}, "class", "is 1 in every row"),
        ("positive", first(0.0), {"objective": "reg:gamma"}, "positive", 'label "positive" in the part "{part}" is 0 somewhere. Expected a positive'),
        ("share", first(1.5), {"objective": "reg:logistic"}, "share", "is 1.5 somewhere"),
        ("count", first(-2), {"objective": "count:poisson"}, "count", "is -2 somewhere"),
        ("grade", first(40), RANKING, "grade", "is 40 somewhere. Expected a grade from 0 to 31"),
        ("query", first(None), RANKING, "grade", 'the group "query" is null in 1 rows'),
        ("query", lambda v: [*v[:-1], v[0]], RANKING, "grade", "{part}-0.parquet: the group \"query\" comes back to 'q00000' after other groups"),
        ("lower", first(None), AFT, "lower", 'is null or NaN 1 times'),
        ("upper", first(0.0), AFT, "lower", 'the upper bound "upper" in the part "{part}" is 0 somewhere'),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_trained_with_is_named(
    tmp_path: Path, part: str, column: str, change: Any, trainer: dict[str, Any], label: str, message: str
) -> None:
    data = changed(column, change, part=part, folder=tmp_path / "data", label=label)
    kept = Kept()

    with pytest.raises(TrainError, match=message.format(part=part)):
        fit(XGBoost(**({"objective": "reg:squarederror", "rounds": 3} | trainer)), data, workdir=tmp_path / "work", recorder=kept)  # fmt: skip
    assert not kept.seen


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"objective": "binary:logistic", "class_weights": {"0": 1.0}}, "has no weight for the class 1"),
        ({"objective": "binary:logistic", "class_weights": {"0": 1.0, "1": 1.0, "2": 1.0}}, 'names "2", which is no class'),
        ({"objective": "binary:logistic", "class_weights": {"0": -1.0, "1": 1.0}}, "not all finite and not negative"),
        ({"objective": "binary:logistic", "monotone": {"kind": 1}}, 'monotone names "kind", whose values are categories'),
        ({"objective": "binary:logistic", "targets": ("second",), "params": {"multi_strategy": "multi_output_tree"}}, "no trees of several targets"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_data_are_refused(
    tmp_path: Path, trainer: dict[str, Any], message: str
) -> None:
    data = training_set(tmp_path / "data", "binary", rows=200)

    with pytest.raises(TrainError, match=message):
        fit(XGBoost(rounds=3, **trainer), data, workdir=tmp_path / "work")


def test_a_weight_that_differs_within_a_query_is_refused(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data", "grade", rows=300)

    with pytest.raises(TrainError, match='weight "heavy" differs within a query'):
        fit(XGBoost(rounds=3, weight="heavy", **RANKING), data, workdir=tmp_path / "work")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_machine_without_the_device_is_refused_before_it_trains(
    tmp_path: Path, client: Client, workers: int
) -> None:
    data, kept = training_set(tmp_path / "data", "binary", rows=200), Kept()
    trainer = XGBoost(rounds=3, device="cuda", workers=workers)

    with pytest.raises(
        MachineError, match=r"there is no CUDA device that XGBoost can use.*Use device=\"cpu\""
    ):
        fit(
            trainer,
            data,
            workdir=tmp_path / "work",
            recorder=kept,
            client=client if workers > 1 else None,
        )
    assert not kept.told


def test_rows_that_do_not_fit_into_the_memory_there_is_are_kept_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, trainer = training_set(tmp_path / "data", "binary", rows=600), XGBoost(rounds=5)
    enough, little = Kept(), Kept()

    in_memory = fit(trainer, data, workdir=tmp_path / "enough", recorder=enough)
    monkeypatch.setattr("mlflow_core.train.xgboost.rank._memory_limit", lambda: 50_000)
    in_files = fit(trainer, data, workdir=tmp_path / "little", recorder=little)

    assert (enough.seen["gang.external"], little.seen["gang.external"]) == (False, True)
    test = data.read("test")
    np.testing.assert_allclose(in_files.predict(test), in_memory.predict(test), atol=0.02)


def test_a_metric_that_is_no_number_ends_the_training_names_the_round_and_keeps_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    data = training_set(tmp_path / "data", "amount", rows=300)
    trainer = XGBoost(objective="reg:squarederror", rounds=50, learning_rate=1e12, checkpoint_every=1)

    with pytest.raises(
        TrainError, match=r'the metric "rmse" of the validation rows is \S*(nan|inf) after round \d'
    ) as raised:
        fit(trainer, data, workdir=tmp_path / "work")

    round_ = int(re.findall(r"after round (\d+)", str(raised.value))[0])
    kept = sorted((tmp_path / "work" / "checkpoints").glob("*.checkpoint"))
    assert [int(path.stem) for path in kept][-1:] == ([round_] if round_ else [])
    assert round_ > 0


def test_empty_shards_constant_features_and_categories_never_seen_are_no_errors(tmp_path: Path) -> None:
    train, validate = table(400, 1), table(200, 2)
    train = train.append_column("flat", pa.array(np.full(400, 2.0)))
    kinds = pa.array(
        ["never seen" if n % 3 == 0 else k for n, k in enumerate(validate.column("kind").to_pylist())]
    )
    validate = validate.set_column(validate.column_names.index("kind"), "kind", kinds)
    validate = validate.append_column("flat", pa.array(np.linspace(0, 1, 200)))
    parts = {
        "train": [train.slice(0, 0), train, train.slice(0, 0)],
        "validate": [validate.slice(0, 0), validate],
        "test": [validate],
    }
    data = write(tmp_path / "data", parts, label="binary", features=(*FEATURES, "flat"), request=())

    model = fit(XGBoost(rounds=5), data, workdir=tmp_path / "work")

    assert [note.split('"')[1] for note in model.notes] == ["flat"]
    without = validate.set_column(
        validate.column_names.index("kind"),
        "kind",
        pa.array([None if k == "never seen" else k for k in kinds.to_pylist()]),
    )
    np.testing.assert_array_equal(model.predict(validate), model.predict(without))
