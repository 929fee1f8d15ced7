"""What the rows of a registry say is what Feast says of them, and where rows cannot tell Feast is asked."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.protos.feast.core.FeatureService_pb2 import FeatureService as ServiceMessage
from feast.protos.feast.core.Project_pb2 import Project as ProjectMessage
from feast.types import Float64

import mlflow_core as ml
from mlflow_core.algebra.types import arrow_type
from mlflow_core.feast.applied import is_applied, stored
from mlflow_core.feast.registry import applied_specs, apply_project, open_store, plan_project
from mlflow_core.plan.project import Project
from mlflow_core.spec import DType
from tests.feast.on_demand_of_flights import delays, flights, per_mile

Schemas = Mapping[str, pa.Schema]

YAML = """project: demo
provider: local
registry: {registry_type: sql, path: sqlite:///registry.db}
offline_store: {type: mlflow_core.feast.offline_store.DaskOfflineStore}
online_store: {type: mlflow_core.feast.online_store.PackedOnlineStore, path: online.db}
batch_engine: {type: mlflow_core.feast.compute_engine.DaskComputeEngine}
entity_key_serialization_version: 3
"""
everything = ml.FeatureView(
    "everything",
    source=ml.SqlSource(name="db", url="${env:DB}", table="hourly", event_time="t"),
    features=[f"c{number}" for number, _ in enumerate(DType)],
    availability=ml.Every("1h"),
    owner="ops@example.org",
    tags={"team": "ops", "empty": ""},
)
SCHEMAS: Schemas = {
    "delays": pa.schema(
        {
            "origin": pa.string(),
            "dest": pa.int32(),
            "delay": pa.float64(),
            "delay_mean_3h": pa.float64(),
            "delays_count_3h": pa.int64(),
        }
    ),
    "everything": pa.schema([(f"c{number}", arrow_type(dtype)) for number, dtype in enumerate(DType)]),
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text(YAML)
    return tmp_path


@pytest.fixture
def project(repo: Path) -> Project:
    made = Project(
        name="demo", root=repo, repo=repo,
        entities={"route": ml.Entity("route", keys=["origin", "dest"])},
        sources={"flights": flights, "db": everything.source},
        views={"delays": delays, "everything": everything},
        on_demand={"per_mile": per_mile},
        services={"model": ml.FeatureService("model", [delays[["delay"]], everything, per_mile])},
    )  # fmt: skip
    apply_project(made, SCHEMAS, open_store(repo, create=True))
    return made


def retyped(view: str, column: str, kind: pa.DataType) -> Schemas:
    schema = SCHEMAS[view]
    return {**SCHEMAS, view: schema.set(schema.get_field_index(column), pa.field(column, kind))}


def without_services(project: Project) -> Project:
    return replace(project, services={})


def redescribed(project: Project) -> Project:
    return replace(project, services={"model": ml.FeatureService("model", [delays], description="new")})


def of_another_clock(project: Project) -> Project:
    features = project.services["model"].features
    return replace(project, services={"model": ml.FeatureService("model", features, clock="event")})


DIFFERENT: dict[str, tuple[Callable[[Project], Project], Schemas]] = {
    "a service fewer": (without_services, SCHEMAS),
    "another description": (redescribed, SCHEMAS),
    "another clock": (of_another_clock, SCHEMAS),
    "a feature of another type": (lambda same: same, retyped("delays", "delay", pa.float32())),
    "a key of another type": (lambda same: same, retyped("delays", "origin", pa.int64())),
    "an input of another type": (lambda same: same, retyped("everything", "c0", pa.string())),
}


def test_what_is_read_is_what_feast_says(project: Project, repo: Path) -> None:
    found = stored(repo)

    assert found is not None
    assert found.specs == applied_specs(open_store(repo))


def test_where_nothing_differs_both_say_so_of_every_type_and_kind(project: Project, repo: Path) -> None:
    assert is_applied(project, SCHEMAS, repo)
    assert not plan_project(project, SCHEMAS, open_store(repo))


@pytest.mark.parametrize("how", DIFFERENT)
def test_what_differs_for_feast_differs_here(how: str, project: Project, repo: Path) -> None:
    change, schemas = DIFFERENT[how]

    assert plan_project(change(project), schemas, open_store(repo))
    assert not is_applied(change(project), schemas, repo)


@pytest.mark.parametrize("tag", ["team", "mlcore.on_demand", "mlcore.code"])
def test_what_others_changed_in_the_registry_is_seen(tag: str, project: Project, repo: Path) -> None:
    store = open_store(repo)
    name = "delays" if tag == "team" else "per_mile"
    view = store.get_feature_view(name) if tag == "team" else store.get_on_demand_feature_view(name)
    view.tags = view.tags | {tag: "other"}
    store.registry.delete_feature_view(name, "demo")
    store.registry.apply_feature_view(view, "demo")

    assert plan_project(project, SCHEMAS, open_store(repo))
    assert not is_applied(project, SCHEMAS, repo)


def test_a_materialised_view_is_what_it_was(project: Project, repo: Path) -> None:
    with sqlite3.connect(repo / "registry.db") as tables:
        (message,) = tables.execute(
            "SELECT feature_view_proto FROM feature_views WHERE feature_view_name = 'delays'"
        ).fetchone()
        # Feast keeps what was materialised in the second part of the message.
        tables.execute(
            "UPDATE feature_views SET feature_view_proto = ? WHERE feature_view_name = 'delays'",
            (message + b"\x12\x02\x0a\x00",),
        )

    assert is_applied(project, SCHEMAS, repo)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sqlite:///registry.db", "sqlite:///nowhere.db"),
        ("sqlite:///registry.db", "sqlite:///file:registry.db?uri=true"),
        ("registry_type: sql", "registry_type: file"),
        ("path: online.db", "clock: tomorrow"),
        ("path: online.db", "path: 7"),
        ("PackedOnlineStore", "NoStore"),
        ("provider: local", "provider: [local"),
        ("project: demo", "project: other"),
        ("project: demo", "project: _demo"),
    ],
)
def test_where_the_configuration_is_not_plain_or_wrong_feast_is_asked(
    before: str, after: str, project: Project, repo: Path
) -> None:
    (repo / "feature_store.yaml").write_text(YAML.replace(before, after))

    assert stored(repo) is None
    assert not (repo / "nowhere.db").exists()


def test_where_others_have_written_feast_is_asked(project: Project, repo: Path) -> None:
    customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)
    source = FileSource(name="orders", path="orders.parquet", timestamp_field="t")
    view = FeatureView(
        name="native", entities=[customer], schema=[Field(name="x", dtype=Float64)], source=source
    )
    open_store(repo).apply([customer, source, view])

    assert stored(repo) is None
    assert not is_applied(project, SCHEMAS, repo)


def manifest_is_a_list(message: bytes) -> bytes:
    project = ProjectMessage.FromString(message)
    project.spec.tags["mlcore.manifest"] = "[]"
    return bytes(project.SerializeToString())


def kept_kind_is_a_list(message: bytes) -> bytes:
    project = ProjectMessage.FromString(message)
    project.spec.tags["mlcore.manifest"] = '{"entities": ["route"]}'
    return bytes(project.SerializeToString())


def spec_is_a_number(message: bytes) -> bytes:
    service = ServiceMessage.FromString(message)
    service.spec.tags["mlcore.spec"] = "5"
    return bytes(service.SerializeToString())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE feature_services SET feature_service_proto = x'0aff'",
        "UPDATE feature_views SET feature_view_proto = 'a text'",
        "UPDATE feature_views SET feature_view_proto = 5",
        "CREATE TABLE bare AS SELECT project_id, NULL AS feature_view_proto FROM feature_views;"
        "DROP TABLE feature_views; ALTER TABLE bare RENAME TO feature_views",
        "UPDATE projects SET project_proto = manifest_is_a_list(project_proto)",
        "UPDATE projects SET project_proto = kept_kind_is_a_list(project_proto)",
        "UPDATE feature_services SET feature_service_proto = spec_is_a_number(feature_service_proto)",
        "DROP TABLE projects",
    ],
)
def test_where_rows_are_damaged_feast_is_asked(damage: str, project: Project, repo: Path) -> None:
    with sqlite3.connect(repo / "registry.db") as tables:
        for change in (manifest_is_a_list, kept_kind_is_a_list, spec_is_a_number):
            tables.create_function(change.__name__, 1, change)
        tables.executescript(damage)

    assert stored(repo) is None
    assert not is_applied(project, SCHEMAS, repo)


def test_a_locked_registry_is_not_waited_for(project: Project, repo: Path) -> None:
    with closing(sqlite3.connect(repo / "registry.db", isolation_level=None)) as held:
        held.execute("BEGIN EXCLUSIVE")
        asked = monotonic()

        assert stored(repo) is None
        assert monotonic() - asked < 4, "SQLite waits for five seconds"


def test_a_server_that_does_not_answer_is_not_waited_for(repo: Path) -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://ops@127.0.0.1:{silent.getsockname()[1]}/registry"
        (repo / "feature_store.yaml").write_text(YAML.replace("sqlite:///registry.db", url))
        asked = monotonic()

        assert stored(repo) is None
        assert monotonic() - asked < 20, "PostgreSQL's library waits for minutes"


def test_native_objects_of_the_project_are_compared_by_feast(project: Project, repo: Path) -> None:
    native = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)

    assert not is_applied(replace(project, native=(native,)), SCHEMAS, repo)
