"""Projects compile to Feast objects that survive Feast's registry, and on-demand features never carry code there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity as FeastEntity
from feast import FeatureView as FeastView
from feast import OnDemandFeatureView as FeastOnDemand
from feast import ValueType
from feast.data_source import DataSource

import mlflow_core as ml
from mlflow_core.algebra.types import TIME, arrow_type
from mlflow_core.errors import PlanError, UnknownNameError
from mlflow_core.plan.from_feast import ON_DEMAND_TAG, SPEC_TAG, on_demand_of, read_of, source_of, view_of
from mlflow_core.plan.project import Project
from mlflow_core.plan.shim import evaluate_frame
from mlflow_core.plan.to_feast import KIND_TAG, feast_type, to_feast
from mlflow_core.spec import DType, FeatureView, OnDemand

SECRET_OF_THE_FUNCTION = "a constant that only the code holds"
MODULE = f'''
import mlflow_core as ml
import numpy as np

flights = ml.ParquetSource("flights", path="flights.parquet", event_time="t")
delay = ml.FeatureView("delay", entity=ml.Entity("carrier"), source=flights, availability=ml.Every("1h"),
    features=[ml.Agg("minutes", "mean", over="1h"), ml.Agg("*", "count", over="1h")])

@ml.on_demand(inputs=[delay], request={{"distance": float, "departs": ml.Timestamp}})
def of_request(x):
    """{SECRET_OF_THE_FUNCTION}"""
    return {{
        "per_mile": x["minutes_mean_1h"] / x["distance"],
        "hour": ml.hour(x["departs"]),
        "busy": x["delay_count_1h"] > 1,
        "name": np.array(["far" if d > 1 else None for d in x["distance"]], dtype=object),
    }}
'''
SCHEMAS = {
    "delay": pa.schema(
        [("carrier", pa.string()), ("minutes_mean_1h", pa.float64()), ("delay_count_1h", pa.int64())]
    )
}


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "declared_for_feast.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    module = importlib.import_module("declared_for_feast")
    yield module
    del sys.modules["declared_for_feast"]


def project_of(
    *views: FeatureView, on_demand: tuple[OnDemand, ...] = (), native: tuple[object, ...] = ()
) -> Project:
    entities = {view.entity.name: view.entity for view in views if view.entity is not None}
    return Project(
        name="demo", root=Path("/p"), repo=Path("/p/repo"), entities=entities,
        sources={view.source.name: view.source for view in views},
        views={view.name: view for view in views},
        on_demand={one.name: one for one in on_demand},
        native=native,
    )  # fmt: skip


def source(name: str = "s") -> ml.ParquetSource:
    return ml.ParquetSource(name=name, path="a.parquet", event_time="t")


def stored(one: FeastOnDemand) -> FeastOnDemand:
    return FeastOnDemand.from_proto(type(one.to_proto()).FromString(one.to_proto().SerializeToString()))


@pytest.mark.parametrize("dtype", list(DType))
def test_every_type_survives_the_way_through_feast(dtype: DType) -> None:
    view = ml.FeatureView(name="v", entity=ml.Entity(name="k"), source=source(), features="x")
    schemas = {"v": pa.schema([("k", pa.string()), ("x", arrow_type(dtype))])}

    made = next(one for one in to_feast(project_of(view), schemas) if isinstance(one, FeastView))
    back = FeastView.from_proto(made.to_proto())

    assert [(field.name, field.dtype) for field in back.features] == [("x", feast_type(dtype))]


def test_an_entity_of_two_keys_becomes_two_feast_entities_shared_with_those_of_one_key() -> None:
    route = ml.Entity(name="route", keys=("origin", "dest"))
    airport = ml.Entity(name="airport", keys=("origin",), description="An airport.")
    views = (
        ml.FeatureView(name="r", entity=route, source=source(), features="x"),
        ml.FeatureView(name="a", entity=airport, source=source(), features="y"),
    )
    schemas = {
        "r": pa.schema([("origin", pa.string()), ("dest", pa.int32()), ("x", pa.float64())]),
        "a": pa.schema([("origin", pa.string()), ("y", pa.float64())]),
    }

    made = to_feast(project_of(*views), schemas)

    entities = {one.name: one for one in made if isinstance(one, FeastEntity)}
    assert {name: (one.join_key, one.value_type) for name, one in entities.items()} == {
        "airport": ("origin", ValueType.STRING),
        "dest": ("dest", ValueType.INT64),
    }
    assert entities["airport"].description == "An airport."
    by_name = {one.name: one for one in made if isinstance(one, FeastView)}
    assert (by_name["r"].entities, by_name["a"].entities) == (["airport", "dest"], ["airport"])


def test_a_key_of_two_types_is_refused() -> None:
    views = tuple(
        ml.FeatureView(name=name, entity=ml.Entity(name="k"), source=source(), features="x") for name in "ab"
    )
    schemas = {
        "a": pa.schema([("k", pa.string()), ("x", pa.float64())]),
        "b": pa.schema([("k", pa.int64()), ("x", pa.float64())]),
    }

    with pytest.raises(PlanError, match='key column "k" is int64 here and string in view "a"'):
        to_feast(project_of(*views), schemas)


def test_a_native_object_of_a_name_that_is_taken_is_refused() -> None:
    view = ml.FeatureView(name="v", entity=ml.Entity(name="k"), source=source(), features="x")
    schemas = {"v": pa.schema([("k", pa.string()), ("x", pa.float64())])}
    native = FeastEntity(name="k", value_type=ValueType.INT64)

    with pytest.raises(PlanError, match='a native Feast Entity has the name "k"'):
        to_feast(project_of(view, native=(native,)), schemas)


@pytest.mark.parametrize(
    "spec",
    [
        ml.SqlSource(name="db", url="${env:DB}", query="SELECT 1", event_time="t", created="c"),
        ml.SqlSource(name="db", url="${env:DB}", table="f", split_by="id", event_time="t", created="c"),
        ml.DeltaSource(name="db", path="lake/f", version=3, event_time="t", created="c"),
        ml.IcebergSource(
            name="db", table="a.f", properties={"uri": "${env:C}"}, snapshot=7, event_time="t", created="c"
        ),
    ],
)
def test_a_source_that_feast_cannot_read_survives_the_way_through_it(spec: ml.SqlSource) -> None:
    view = ml.FeatureView(name="v", source=spec, features="x")

    made = to_feast(project_of(view), {"v": pa.schema([("x", pa.float64())])})
    feast_source = next(one for one in made if isinstance(one, DataSource))
    back = DataSource.from_proto(feast_source.to_proto())

    assert back == feast_source
    assert (back.name, back.timestamp_field, back.created_timestamp_column) == ("db", "t", "c")
    assert view_of(next(one for one in made if isinstance(one, FeastView)), repo_path="/p") == view
    assert source_of(back, repo_path="/p", columns=()) == spec


def test_everything_of_ours_is_marked(declared: ModuleType) -> None:
    made = to_feast(project_of(declared.delay, on_demand=(declared.of_request,)), SCHEMAS)

    assert [one.name for one in made if KIND_TAG not in one.tags] == []
    assert {one.name for one in made if SPEC_TAG in one.tags} == {"carrier", "flights", "delay", "of_request"}


def test_the_registry_holds_the_import_path_of_on_demand_features_and_none_of_their_code(
    declared: ModuleType,
) -> None:
    made = to_feast(project_of(declared.delay, on_demand=(declared.of_request,)), SCHEMAS)
    one = next(one for one in made if isinstance(one, FeastOnDemand))
    proto = one.to_proto()

    written = proto.SerializeToString()
    function = proto.spec.feature_transformation.user_defined_function
    assert one.tags[ON_DEMAND_TAG] == "declared_for_feast:of_request"
    assert function.body == b""
    assert "per_mile" not in function.body_text
    assert b"np.array" not in written
    assert on_demand_of(stored(one)) is declared.of_request


def test_code_that_was_changed_after_apply_is_refused(declared: ModuleType) -> None:
    made = to_feast(project_of(declared.delay, on_demand=(declared.of_request,)), SCHEMAS)
    one = stored(next(one for one in made if isinstance(one, FeastOnDemand)))
    file = Path(str(declared.__file__))
    file.write_text(MODULE.replace('_count_1h"] > 1,', '_count_1h"] > 1000,'))
    importlib.invalidate_caches()
    importlib.reload(declared)

    with pytest.raises(PlanError, match="is not the code that was applied"):
        on_demand_of(one)


def test_plain_feast_evaluates_on_demand_features_from_its_registry(declared: ModuleType) -> None:
    made = to_feast(project_of(declared.delay, on_demand=(declared.of_request,)), SCHEMAS)
    one = stored(next(one for one in made if isinstance(one, FeastOnDemand)))
    inputs = pa.table(
        {
            "delay__minutes_mean_1h": [10.0, None],
            "delay__delay_count_1h": [2, 0],
            "distance": [2.0, 1.0],
            "departs": pa.array([0, 3_600_000_000], pa.int64()).cast(TIME),
        }
    )

    answer = one.transform_arrow(inputs)

    assert answer.select(["per_mile", "hour", "busy", "name"]).to_pydict() == {
        "per_mile": [5.0, None], "hour": [0, 1], "busy": [True, False], "name": ["far", None],
    }  # fmt: skip
    kinds = {field.name: str(field.dtype) for field in one.features}
    assert kinds == {"per_mile": "Float64", "hour": "Float64", "busy": "Bool", "name": "String"}


def test_feast_infers_the_declared_types_when_it_calls_stored_features_with_samples(
    declared: ModuleType,
) -> None:
    made = to_feast(project_of(declared.delay, on_demand=(declared.of_request,)), SCHEMAS)
    one = stored(next(one for one in made if isinstance(one, FeastOnDemand)))
    before = list(one.features)

    one.infer_features()

    assert one.features == before


def test_a_frame_without_an_input_is_refused(declared: ModuleType) -> None:
    with pytest.raises(PlanError, match='input "minutes_mean_1h" was not given'):
        evaluate_frame("declared_for_feast:of_request", pd.DataFrame({"distance": [1.0]}))


def test_a_read_follows_feasts_alias_and_join_key_map(declared: ModuleType) -> None:
    made = to_feast(project_of(declared.delay), SCHEMAS)
    view = next(one for one in made if isinstance(one, FeastView))
    aliased = view.with_name("other").with_join_key_map({"carrier": "operator"})

    read = read_of(aliased, ["delay_count_1h", "minutes_mean_1h"], None, True, repo_path="/p")

    assert read.keys == (("carrier", "operator"),)
    assert read.features == ("minutes_mean_1h", "delay_count_1h")
    assert read.output("delay_count_1h") == "other__delay_count_1h"
    assert read.clock == "event"
    with pytest.raises(UnknownNameError, match="minutes_mean_1h"):
        read_of(aliased, ["minutes_mean"], None, False, repo_path="/p")
