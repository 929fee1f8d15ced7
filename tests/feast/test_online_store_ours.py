"""Our own views and on-demand features, asked through Feast's public API on the packed online store."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest

import mlflow_core as ml
from mlflow_core.errors import ServeError, StoreError
from mlflow_core.feast.stored_view import marked_as_removed, schema_of_stored, stored_view
from mlflow_core.online.layout import definition_of
from mlflow_core.online.write import EVENT_TIME
from mlflow_core.plan.project import Project
from mlflow_core.plan.to_feast import to_feast
from tests.feast.on_demand_of_flights import delays, per_mile
from tests.feast.online_repository import (
    HOUR,
    NOON,
    rows,
    statuses_of,
    store_in,
)
from tests.online.writing import write_table


@pytest.fixture
def ours(tmp_path):
    """A store with our own view, on-demand features and service applied, and one boundary materialised."""
    service = ml.FeatureService("model", [delays, per_mile])
    project = Project(
        name="flights",
        root=tmp_path,
        repo=tmp_path,
        entities={"route": delays.entity},
        sources={"flights": delays.source},
        views={"delays": delays},
        on_demand={"per_mile": per_mile},
        services={"model": service},
    )
    schema = pa.schema(
        [
            ("origin", pa.string()),
            ("dest", pa.string()),
            ("delay", pa.float64()),
            ("delay_mean_3h", pa.float64()),
            ("delays_count_3h", pa.int64()),
        ]
    )
    store = store_in(tmp_path / "repo")
    store.apply(to_feast(project, {"delays": schema}))
    table = pa.table(
        {
            "dest": ["ORD", "ORD", "ORD"],
            "origin": ["EWR", "JFK", "LGA"],
            "delay": [5.0, 7.0, None],
            "delay_mean_3h": [2.5, 7.0, None],
            "delays_count_3h": [2, 1, 0],
            EVENT_TIME: pa.array([NOON, NOON - 2 * HOUR, None], pa.timestamp("us", "UTC")),
        }
    )
    online = store._get_provider().online_store
    boundary = int(NOON.timestamp()) * 1_000_000
    applied = store.get_feature_view("delays")
    assert (
        write_table(
            online.backend(store.config), stored_view(applied), table, boundary, schema_of_stored(applied)
        ).changed
        == 3
    )
    yield store
    asyncio.run(online.close())


def test_our_views_and_on_demand_features_are_answered_through_feast(ours):
    asked = rows(origin=["EWR", "JFK", "LGA", "SFO"], dest=["ORD"] * 4, distance=[10.0, 10.0, 10.0, None])
    response = ours.get_online_features(ours.get_feature_service("model"), asked)
    assert response.to_dict() == {
        "dest": ["ORD"] * 4,
        "origin": ["EWR", "JFK", "LGA", "SFO"],
        "delay": [5.0, None, None, None],
        "delay_mean_3h": [2.5, 7.0, None, None],
        "delays_count_3h": [2, 1, 0, 0],
        "mean_per_mile": [0.25, 0.7, None, None],
        "busy": [True, False, False, False],
    }
    assert statuses_of(response) == {
        "dest": ["PRESENT"] * 4,
        "origin": ["PRESENT"] * 4,
        "delay": ["PRESENT", "OUTSIDE_MAX_AGE", "NULL_VALUE", "NOT_FOUND"],
        "delay_mean_3h": ["PRESENT", "PRESENT", "NULL_VALUE", "NOT_FOUND"],
        "delays_count_3h": ["PRESENT", "PRESENT", "PRESENT", "NOT_FOUND"],
        "mean_per_mile": ["PRESENT", "PRESENT", "NULL_VALUE", "NULL_VALUE"],
        "busy": ["PRESENT"] * 4,
    }


def test_our_features_can_be_asked_one_by_one_with_full_names(ours):
    response = ours.get_online_features(
        ["per_mile:busy", "delays:delays_count_3h"],
        {"origin": ["EWR"], "dest": ["ORD"], "distance": [1.0]},
        full_feature_names=True,
    )
    assert {name: values for name, values in response.to_dict().items() if "__" in name} == {
        "per_mile__busy": [True],
        "delays__delays_count_3h": [2],
    }
    with pytest.raises(ServeError, match='no column "distance"'):
        ours.get_online_features(["per_mile:busy"], {"origin": ["EWR"], "dest": ["ORD"]})


def test_applying_another_window_refuses_rows_of_the_former_one(ours):
    view = ours.get_feature_view("delays")
    former = view.tags["mlcore.spec"]
    view.tags["mlcore.spec"] = former.replace(
        '"functions":["mean"]', '"functions":["max"],"name":"delay_mean_3h"'
    )
    assert view.tags["mlcore.spec"] != former
    ours.apply([view])
    asked = {"origin": ["EWR"], "dest": ["ORD"]}
    with pytest.raises(StoreError, match="another definition of its view"):
        ours.get_online_features(["delays:delay"], asked)
    view.tags["mlcore.spec"] = former
    ours.apply([view])
    assert ours.get_online_features(["delays:delay"], asked).to_dict()["delay"] == [5.0]


def test_a_deletion_by_who_does_not_know_our_declarations_is_told_and_keeps_the_rows(ours):
    asked, view = {"origin": ["EWR"], "dest": ["ORD"]}, ours.get_feature_view("delays")
    with pytest.raises(StoreError, match=r"feast apply sees only Feast's own .* delays .* Run: mlcore apply"):
        ours.apply([], objects_to_delete=[view], partial=False)  # what the command of Feast does
    ours.apply([view])
    assert ours.get_online_features(["delays:delay"], asked).to_dict()["delay"] == [5.0]

    ours.apply([], objects_to_delete=marked_as_removed([ours.get_feature_view("delays")]), partial=False)
    ours.apply([view])
    assert ours.get_online_features(["delays:delay"], asked).to_dict()["delay"] == [None]


def test_rows_are_not_read_by_a_view_of_another_source_column_identity_or_schedule():
    source = delays.source
    plain = delays.model_copy(update={"features": ("delay",), "columns": {}})
    others = [
        plain.model_copy(update={"source": source.model_copy(update={"rename": {"arr_delay": "delay"}})}),
        plain.model_copy(update={"source": source.model_copy(update={"event_id": "flight"})}),
        plain.model_copy(update={"source": source.model_copy(update={"event_time": "another"})}),
        plain.model_copy(update={"availability": ml.Every("2h")}),
    ]
    assert len({definition_of(view) for view in [plain, *others]}) == 5
    same = plain.model_copy(update={"ttl": None, "owner": "somebody", "description": "said otherwise"})
    assert definition_of(same) == definition_of(plain)
