"""A family: each row is predicted by its entity's own model, and by the model of all rows where it has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from distributed import Client

from mlflow_core.errors import SpecError, TrainError
from mlflow_core.spec.trainer import Family, Sklearn, Trainer, XGBoost
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.family.fit import _MemberProgram
from mlflow_core.train.models.family import FamilyScorer, _View
from mlflow_core.train.models.model import Model
from mlflow_core.train.pool import Slot, Stopped
from tests.train import made
from tests.train.made import FEATURES, table, training_set, write

MEMBER = XGBoost(rounds=12, max_depth=3, seed=3)
FAMILY = Family(trainer=MEMBER, by=("carrier",), least_rows=100)


def fit(trainer: Trainer, data: TrainingData, **context: object) -> Model:
    """One thread: with more, those of a busy machine wait for each other most of the time."""
    return made.fit(trainer, data, threads=1, **context)


def _filter(one: pa.Table, carrier: str | None) -> pa.Table:
    column = one.column("carrier")
    return one.filter(pa.compute.is_null(column) if carrier is None else pa.compute.equal(column, carrier))


def _with_rare(rows: int, seed: int, rare: int) -> pa.Table:
    """The usual rows, a few of which belong to a carrier that hardly flies."""
    made = table(rows, seed)
    carriers = made.column("carrier").to_pylist()
    carriers[:rare] = ["ZZ"] * rare
    return made.set_column(made.column_names.index("carrier"), "carrier", pa.array(carriers))


def test_each_row_is_predicted_by_the_model_of_its_entity_trained_on_its_rows_alone(tmp_path: Path) -> None:
    data = write(
        tmp_path / "data",
        {
            "train": [_with_rare(1500, 1, 20), _with_rare(900, 2, 20)],
            "validate": [_with_rare(700, 3, 20)],
            "test": [_with_rare(800, 4, 30)],
        },
    )

    model = fit(FAMILY, data, workdir=tmp_path / "work")

    test = data.read("test")
    everyone = fit(MEMBER, data, workdir=tmp_path / "everyone")
    expected = everyone.predict(test)
    for carrier in ("AA", "B6", "DL", "UA"):
        alone = write(
            tmp_path / carrier,
            {part: [_filter(data.read(part), carrier)] for part in ("train", "validate", "test")},
        )
        own = fit(MEMBER, alone, workdir=tmp_path / f"of-{carrier}")
        rows = np.flatnonzero(
            pa.compute.equal(test.column("carrier"), carrier).to_numpy(zero_copy_only=False)
        )
        expected[rows] = own.predict(test.take(pa.array(rows)))
    np.testing.assert_allclose(model.predict(test), expected, rtol=1e-6)
    facts = model.scorer.facts()
    assert [one["entity"]["carrier"] for one in facts["members"]] == ["AA", "B6", "DL", "UA"]
    assert model.scorer.rest == sum(
        carrier in (None, "ZZ") for carrier in data.read("train").column("carrier").to_pylist()
    )
    assert "4 entities have a model of their own" in model.notes[-1]


def test_a_request_of_python_values_is_answered_as_a_table_is(tmp_path: Path) -> None:
    model = fit(FAMILY, training_set(tmp_path / "data"), workdir=tmp_path / "work")
    rows = table(40, 9).select(FEATURES)

    one_by_one = [
        model.predict_columns({name: [value] for name, value in row.items()})[0] for row in rows.to_pylist()
    ]

    np.testing.assert_allclose(one_by_one, model.predict(rows), rtol=1e-6)
    unseen = model.predict_columns({**rows.slice(0, 1).to_pydict(), "carrier": ["??"]})
    missing = model.predict_columns({**rows.slice(0, 1).to_pydict(), "carrier": [None]})
    assert unseen == missing


def test_it_is_saved_and_read_back_as_one_folder(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    model = fit(FAMILY, data, workdir=tmp_path / "work")

    read = Model.load(model.save(tmp_path / "model"))

    test = data.read("test")
    np.testing.assert_array_equal(read.predict(test), model.predict(test))
    assert read.kind == "family"
    assert read.scorer.importance() == pytest.approx(model.scorer.importance())
    assert sum(read.scorer.importance().values()) == pytest.approx(1.0)
    assert read.metadata["trainer"] == FAMILY.model_dump(mode="json")
    (tmp_path / "model" / "member00001-booster.ubj").write_bytes(b"other")
    with pytest.raises(TrainError, match="its digest differs"):
        Model.load(tmp_path / "model")


def test_members_trained_side_by_side_are_those_trained_here(tmp_path: Path, client: Client) -> None:
    data = training_set(tmp_path / "data")

    here = fit(FAMILY, data, workdir=tmp_path / "here")
    there = fit(FAMILY, data, workdir=tmp_path / "there", client=client)

    assert len(there.scorer.members) == len(here.scorer.members) == 4
    for one, other in zip(here.scorer.members, there.scorer.members, strict=True):
        assert (one.key, one.rows, one.preprocessing) == (other.key, other.rows, other.preprocessing)
        assert one.scorer.files() == other.scorer.files()


def test_several_columns_may_tell_the_entities_apart(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    family = Family(trainer=MEMBER, by=("late", "carrier"), least_rows=300)

    model = fit(family, data, workdir=tmp_path / "work")

    rows = data.read("train").group_by(["late", "carrier"]).aggregate([([], "count_all")]).to_pylist()
    enough = {(row["late"], row["carrier"]) for row in rows if row["count_all"] >= 300 and row["carrier"]}
    found = {(one["entity"]["late"], one["entity"]["carrier"]) for one in model.scorer.facts()["members"]}
    assert found == enough
    assert 1 < len(found) < 8


def test_an_entity_that_no_model_can_be_trained_from_is_left_to_the_model_of_all_rows(tmp_path: Path) -> None:
    def never_late(one: pa.Table) -> pa.Table:
        of_ua = pa.compute.fill_null(pa.compute.equal(one.column("carrier"), "UA"), False)
        label = pa.compute.if_else(of_ua, False, one.column("label"))
        return one.set_column(one.column_names.index("label"), "label", label)

    parts = {p: [never_late(table(1500, n))] for n, p in enumerate(("train", "validate", "test"))}
    data = write(tmp_path / "data", parts)

    model = fit(FAMILY, data, workdir=tmp_path / "work")

    assert [one["entity"]["carrier"] for one in model.scorer.facts()["members"]] == ["AA", "B6", "DL"]
    note = next(note for note in model.notes if "carrier=UA" in note)
    assert "is left to the model of all rows" in note
    assert "has no positive" in note


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Family(trainer=MEMBER, by=("carier",)), 'key "carier" is not among the model\'s features.*Did you mean "carrier"'),
        (Family(trainer=MEMBER, by=("carrier",), least_rows=10_000), "no entity has 10,000 training rows"),
        (Family(trainer=MEMBER, by=("delay",), least_rows=1), 'key "delay" has numbers that float32 cannot tell apart'),
    ],
)  # fmt: skip
def test_a_key_that_makes_no_family_is_refused(tmp_path: Path, family: Family, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        fit(family, training_set(tmp_path / "data"), workdir=tmp_path / "work")


@pytest.mark.parametrize("by", [(), ("carrier", "carrier")])
def test_a_family_needs_a_key_whose_columns_differ(by: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match="by"):
        Family(trainer=MEMBER, by=by)


def test_a_member_that_knows_less_sees_the_matrix_of_its_own_rows() -> None:
    common = Preprocessing(
        (
            Feature("kind", "category", "string", ("a", "b", "c")),
            Feature("legs", "number", "list<double>", length=3),
            Feature("stops", "category", "list<string>", ("x", "y"), length=2),
            Feature("empty", "category", "string", ("k",)),
        )
    )
    own = Preprocessing(
        (
            Feature("kind", "category", "string", ("a", "c")),
            Feature("legs", "number", "list<double>", length=2),
            Feature("stops", "category", "list<string>", ("y",), length=1),
            Feature("empty", "number", "null"),
        )
    )
    rows: dict[str, list[Any]] = {
        "kind": ["c", "b", None, "a"],
        "legs": [[1.0, 2.0, 3.0], [4.0], None, [5.0, 6.0]],
        "stops": [["x", "y"], ["y"], ["x"], []],
        "empty": [None, None, None, None],
    }
    seen = pa.table({**rows, "empty": pa.nulls(4)})
    given = pa.table({**rows, "empty": pa.array([None] * 4, pa.string())})

    made = _View.between(common, own).of(common.matrix(given))

    np.testing.assert_array_equal(made, own.matrix(seen))


def _classes(one: pa.Table) -> pa.Table:
    """Three classes, the highest of which the carrier UA never has."""
    hours = one.column("hour").to_numpy() % 3
    of_ua = pa.compute.fill_null(pa.compute.equal(one.column("carrier"), "UA"), False)
    label = np.where(of_ua.to_numpy(zero_copy_only=False), hours % 2, hours)
    return one.set_column(one.column_names.index("label"), "label", pa.array(label))


def test_an_entity_without_the_highest_class_is_left_to_the_model_of_all_rows(tmp_path: Path) -> None:
    member = Sklearn(
        estimator="sklearn.tree:DecisionTreeClassifier", arguments={"max_depth": 3}, objective="multiclass"
    )
    parts = {p: [_classes(table(900, n))] for n, p in enumerate(("train", "validate", "test"))}
    data = write(tmp_path / "data", parts)

    model = fit(Family(trainer=member, by=("carrier",), least_rows=50), data, workdir=tmp_path / "work")

    assert model.predict(data.read("test")).shape == (900, 3)
    assert [one["entity"]["carrier"] for one in model.scorer.facts()["members"]] == ["AA", "B6", "DL"]
    note = next(note for note in model.notes if "carrier=UA" in note)
    assert "gives 2 values a row, that of all rows 3" in note


def test_a_family_of_which_no_entity_can_be_trained_is_refused_with_the_reason(tmp_path: Path) -> None:
    def all_of_one_class(one: pa.Table) -> pa.Table:
        known = pa.compute.is_valid(one.column("carrier"))
        return one.set_column(
            one.column_names.index("label"), "label", pa.compute.if_else(known, False, one.column("label"))
        )

    parts = {p: [all_of_one_class(table(900, n))] for n, p in enumerate(("train", "validate", "test"))}
    data = write(tmp_path / "data", parts)

    with pytest.raises(TrainError, match=r"no entity can have a model of its own: carrier=AA, .*no positive"):
        fit(FAMILY, data, workdir=tmp_path / "work")


def _program(tmp_path: Path) -> _MemberProgram:
    return _MemberProgram(MEMBER, training_set(tmp_path / "data"), tmp_path / "members")


def _slot(stopped: Callable[[], bool]) -> Slot:
    return Slot(1, lambda _: None, stopped)


def test_a_second_attempt_never_shares_the_folder_of_the_first(tmp_path: Path) -> None:
    program = _program(tmp_path)
    seen: list[set[Path]] = []

    def look() -> bool:
        if not seen:
            first = set(program.workdir.iterdir())
            seen.append(first)
            seen.append({program(_slot(lambda: False)).parent})  # the second runs while the first does
        return False

    saved = program(_slot(look))

    assert {saved.parent} == seen[0]
    assert seen[0].isdisjoint(seen[1])
    assert {path.name for path in program.workdir.rglob("*") if path.is_dir() and path.parent != program.workdir} == {"model"}  # fmt: skip
    assert Model.load(saved).scorer.files() == Model.load(next(iter(seen[1])) / "model").scorer.files()
    with pytest.raises(Stopped):
        program(_slot(lambda: True))
    assert set(program.workdir.iterdir()) == seen[0] | seen[1]


def test_no_copies_of_rows_are_left(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")

    fit(FAMILY, data, workdir=tmp_path / "work", cache=tmp_path / "cache")

    assert not {"family", "members"} & {path.name for path in (tmp_path / "work").iterdir()}
    assert not (tmp_path / "cache" / "family").exists()


def test_numbers_that_float32_cannot_tell_apart_are_of_no_entity(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    model = fit(Family(trainer=MEMBER, by=("hour",), least_rows=150), data, workdir=tmp_path / "work")
    scorer = model.scorer
    assert isinstance(scorer, FamilyScorer)
    column = model.preprocessing.slices["hour"].start
    for key, expected in ((2.0**24 - 1, 0), (2.0**24, -1), (-(2.0**24), -1)):
        of_key = replace(scorer, members=(replace(scorer.members[0], key=(key,)),))
        matrix = np.zeros((1, model.preprocessing.width), dtype=np.float32)
        matrix[0, column] = key
        assert of_key.member_of(matrix).tolist() == [expected]

    hours = data.read("train").column("hour").to_numpy().copy()
    hours[0] = 2**24
    far = data.read("train").set_column(
        data.read("train").column_names.index("hour"), "hour", pa.array(hours)
    )
    other = write(tmp_path / "far", {part: [far] for part in ("train", "validate", "test")})
    with pytest.raises(TrainError, match=r"float32 cannot tell apart.*below 16,777,216"):
        fit(Family(trainer=MEMBER, by=("hour",), least_rows=150), other, workdir=tmp_path / "work2")
