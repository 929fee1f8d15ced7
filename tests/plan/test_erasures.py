"""Erasures as values: one order, one entry a key, and only those that concern a view."""

from __future__ import annotations

from uuid import UUID

import pyarrow as pa

from mlflow_core.plan.dataset import plan_dataset
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasure, Erasures
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.spec import (
    Dataset,
    Entity,
    FeatureService,
    FeatureView,
    Label,
    ParquetSource,
    Spine,
    TimeSplit,
)

SOURCE = ParquetSource("events", path="e.parquet", event_time="t")
PERSON = FeatureView("person", entity=Entity("k"), source=SOURCE, features=["x"])
PAIR = FeatureView("pair", entity=Entity("both", keys=("m", "k")), source=SOURCE, features=["y"])
PLACE = FeatureView("place", entity=Entity("m"), source=SOURCE, features=["z"])
SERVICE = FeatureService("all", [PERSON, PAIR, PLACE])


def test_the_order_in_which_erasures_are_told_changes_nothing():
    one, other = Erasure(("k",), ("anna",), 3), Erasure(("m", "k"), (1, "anna"), 4)
    turned = Erasure(("k", "m"), ("anna", 1), 4)

    assert Erasures.of([one, other]) == Erasures.of([turned, one])
    assert Erasures.of([one, other]).digest == Erasures.of([turned, one]).digest
    assert Erasures.of([one]).digest != Erasures.of([Erasure(("k",), ("anna",), 5)]).digest
    assert bool(NOTHING_ERASED) is False
    assert Erasures.of([]) == NOTHING_ERASED


def test_keys_of_different_types_are_different_keys():
    keys = (1, "1", b"1", UUID(int=1))
    told = Erasures.of(Erasure(("k",), (key,), 3) for key in keys)

    assert set(told.by_columns()[("k",)]) == {(key,) for key in keys}


def test_each_view_is_told_what_concerns_its_keys():
    erasures = Erasures.of([Erasure(("k",), ("anna",), 3), Erasure(("k", "m"), ("bert", 1), 4)])

    plan = plan_retrieval(SERVICE).without(erasures)

    told = {read.view.name: [one.key for one in read.erased.entries] for read in plan.reads}
    assert told == {"person": [("anna",)], "pair": [("anna",), ("bert", 1)], "place": []}
    assert plan.without(NOTHING_ERASED) == plan_retrieval(SERVICE)


def test_a_dataset_is_told_for_its_rows_its_label_and_its_features():
    schema = pa.schema(
        {
            "k": pa.string(),
            "m": pa.int64(),
            "t": pa.timestamp("us"),
            "x": pa.int64(),
            "y": pa.int64(),
            "z": pa.int64(),
        }
    )
    split = TimeSplit(train_until="2024-01-01", validate_until="2024-02-01")
    declared = Dataset(
        features=FeatureService("one", [PLACE]),
        spine=Spine(SOURCE, columns=("k",)),
        label=Label("x > 1", name="large"),
        split=split,
    )
    erasures = Erasures.of([Erasure(("k",), ("anna",), 3), Erasure(("elsewhere",), ("anna",), 3)])

    plan = plan_dataset(declared, lambda source: schema).without(erasures)

    assert [one.columns for one in plan.erased.entries] == [("k",)]
    assert [read.erased for read in plan.retrieval.reads] == [NOTHING_ERASED]


def test_erasures_are_found_under_the_names_that_rows_have():
    erased = Erasures.of([Erasure(("airport", "day"), ("EWR", 1), 3)])

    assert erased.renamed([("airport", "origin"), ("day", "day")]).entries == (
        Erasure(("day", "origin"), (1, "EWR"), 3),
    )
