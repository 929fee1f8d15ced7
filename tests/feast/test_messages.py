"""The numbers that messages of Feast's are read by are Feast's; what is no message is refused."""

from __future__ import annotations

from typing import Any

import pytest
from feast.infra.registry import sql
from feast.protos.feast.core.DataSource_pb2 import DataSource
from feast.protos.feast.core.FeatureService_pb2 import FeatureService, FeatureServiceSpec
from feast.protos.feast.core.FeatureView_pb2 import FeatureView, FeatureViewSpec
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView, OnDemandFeatureViewSpec
from feast.protos.feast.core.Project_pb2 import Project, ProjectSpec

from mlflow_core.feast.messages import MESSAGES, columns_in, name_in, tags_in

PARTS = {
    "projects": (Project, ProjectSpec),
    "data_sources": (DataSource, DataSource),
    "feature_views": (FeatureView, FeatureViewSpec),
    "on_demand_feature_views": (OnDemandFeatureView, OnDemandFeatureViewSpec),
    "feature_services": (FeatureService, FeatureServiceSpec),
}
VIEW = FeatureView(
    spec=FeatureViewSpec(
        name="delay",
        features=[{"name": "minutes", "value_type": 5}, {"name": "unset"}],
        entity_columns=[{"name": "carrier", "value_type": 2}],
        tags={"team": "ops", "": "", "ß" * 200: "x" * 70_000},
        online=True,
        ttl={"seconds": -1, "nanos": 7},
    )
)


def number(message: Any, field: str) -> int:
    found: int = message.DESCRIPTOR.fields_by_name[field].number
    return found


@pytest.mark.parametrize("table", MESSAGES)
def test_the_numbers_are_those_of_feast(table: str) -> None:
    message, spec = PARTS[table]
    layout = MESSAGES[table]

    assert table in sql.metadata.tables
    assert layout.spec == (None if message is spec else number(message, "spec"))
    assert (layout.name, layout.tags) == (number(spec, "name"), number(spec, "tags"))
    if table == "feature_views":
        assert layout.columns == (number(spec, "entity_columns"), number(spec, "features"))
    if table == "on_demand_feature_views":
        assert layout.columns == (number(spec, "features"),)


def test_a_view_is_read_as_it_was_written() -> None:
    message, layout = VIEW.SerializeToString(), MESSAGES["feature_views"]

    assert name_in(message, layout) == "delay"
    assert tags_in(message, layout) == dict(VIEW.spec.tags)
    assert columns_in(message, layout) == {"carrier": 2, "minutes": 5, "unset": 0}


def test_what_was_cut_off_is_no_message_wherever_the_cut_is() -> None:
    layout = MESSAGES["feature_views"]
    whole = FeatureView(spec=FeatureViewSpec(name="delay", tags={"team": "ops"})).SerializeToString()

    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match="cut off"):
            tags_in(whole[:end], layout)


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        pytest.param(b"\x0b", "are no message", id="a kind that there is not"),
        pytest.param(b"\x08\x01", "is where bytes are expected", id="a number"),
        pytest.param(b"\x8a" + b"\x80" * 10 + b"\x00\x00", "cut off", id="a number without end"),
    ],
)
def test_what_is_no_message_is_refused(damaged: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        tags_in(damaged, MESSAGES["feature_views"])
