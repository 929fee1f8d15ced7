"""What apply writes to Feast's registry comes back, changes once, and is written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

import mlflow_core as ml
from mlflow_core.algebra.types import TIME
from mlflow_core.errors import ConfigError, RegistryError
from mlflow_core.feast.registry import applied_specs, apply_project, has_registry, open_store, plan_project
from mlflow_core.plan.from_feast import service_clock, view_of
from mlflow_core.plan.project import Project

SCHEMAS = {
    "delay": pa.schema([("carrier", pa.string()), ("minutes_mean_1h", pa.float64())]),
    "route_delay": pa.schema(
        [
            ("origin", pa.string()),
            ("dest", pa.string()),
            ("minutes", pa.float64()),
            ("stops", pa.list_(pa.int64())),
        ]
    ),
    "weather": pa.schema([("origin", pa.string()), ("temp", pa.float64())]),
}
YAML = """project: demo
provider: local
registry:
  registry_type: sql
  path: "{path}"
  sqlalchemy_config_kwargs: {{connect_args: {{timeout: 0.2}}}}
offline_store: {{type: dask}}
online_store: {{type: sqlite, path: data/online.db}}
entity_key_serialization_version: 3
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "feature_repo"
    folder.mkdir()
    configure(folder)
    return folder


@pytest.fixture
def project(repo: Path) -> Project:
    flights = ml.ParquetSource(name="flights", path="flights.parquet", event_time="t", known_at="known")
    weather_db = ml.SqlSource(name="weather_db", url="${env:WEATHER}", table="hourly", event_time="t")
    carrier, origin = ml.Entity(name="carrier"), ml.Entity(name="origin")
    route = ml.Entity(name="route", keys=("origin", "dest"))
    delay = ml.FeatureView(
        name="delay", entity=carrier, source=flights, features=[ml.Agg("minutes", "mean", over="1h")],
        availability=ml.Every("1h"), owner="ops@example.org",
    )  # fmt: skip
    route_delay = ml.FeatureView(
        name="route_delay", entity=route, source=flights, features=["minutes", "stops"], ttl="3h",
        availability=ml.Every("1h"),
    )  # fmt: skip
    weather = ml.FeatureView(
        name="weather",
        entity=origin,
        source=weather_db,
        features="temp",
        availability=ml.Every("1h", delay="5m"),
    )
    views = {one.name: one for one in (delay, route_delay, weather)}
    service = ml.FeatureService(name="model", features=(delay, route_delay[["stops"]], weather))
    return Project(
        name="demo", root=repo.parent, repo=repo,
        entities={one.name: one for one in (carrier, origin, route)},
        sources={one.name: one for one in (flights, weather_db)},
        views=views, services={"model": service},
    )  # fmt: skip


def configure(repo: Path, path: str = "sqlite:///data/registry.db") -> None:
    (repo / "feature_store.yaml").write_text(YAML.format(path=path))


def without(project: Project, view: str) -> Project:
    views = {name: one for name, one in project.views.items() if name != view}
    return dataclasses.replace(project, views=views, services={})


def contents(repo: Path) -> str:
    return hashlib.sha256((repo / "data" / "registry.db").read_bytes()).hexdigest()


@pytest.fixture
def other_connection(repo: Path) -> Iterator[Any]:
    (repo / "data").mkdir(exist_ok=True)
    connection = sqlite3.connect(repo / "data" / "registry.db", isolation_level=None)
    yield connection
    connection.close()


def test_what_was_applied_comes_back_as_it_was_declared(project: Project, repo: Path) -> None:
    apply_project(project, SCHEMAS, open_store(repo, create=True))

    store = open_store(repo)
    back = {view.name: view_of(view, repo_path=repo) for view in store.list_feature_views()}

    assert back == dict(project.views)
    assert service_clock(store.get_feature_service("model")) == "served"
    applied = applied_specs(store)
    assert {kind: sorted(names) for kind, names in applied.items() if names} == {
        "entities": ["carrier", "origin", "route"],
        "services": ["model"],
        "sources": ["flights", "weather_db"],
        "views": ["delay", "route_delay", "weather"],
    }


def test_a_second_apply_changes_nothing_not_even_a_byte(project: Project, repo: Path) -> None:
    assert apply_project(project, SCHEMAS, open_store(repo, create=True))
    before = contents(repo)

    store = open_store(repo)

    assert not plan_project(project, SCHEMAS, store)
    assert not apply_project(project, SCHEMAS, store)
    assert contents(repo) == before


def test_what_is_no_longer_declared_is_removed_and_what_others_wrote_stays(
    project: Project, repo: Path
) -> None:
    store = open_store(repo, create=True)
    apply_project(project, SCHEMAS, store)
    store.apply([Entity(name="theirs", value_type=ValueType.INT64)])

    apply_project(without(project, "delay"), SCHEMAS, store)

    fresh = open_store(repo)
    assert sorted(view.name for view in fresh.list_feature_views()) == ["route_delay", "weather"]
    assert fresh.list_feature_services() == []
    assert "theirs" in {entity.name for entity in fresh.list_entities()}


def test_native_objects_are_applied_as_they_are_and_removed_when_they_leave(
    project: Project, repo: Path
) -> None:
    moments = pd.to_datetime(["2013-01-01", "2013-01-02"], utc=True)
    frame = {"driver": [1, 2], "t": pa.array(moments, TIME), "made": pa.array(moments, TIME), "v": [1.0, 2.0]}
    pq.write_table(pa.table(frame), repo / "drivers.parquet")
    source = FileSource(
        name="drivers", path="drivers.parquet", timestamp_field="t", created_timestamp_column="made",
        field_mapping={"v": "speed"},
    )  # fmt: skip
    driver = Entity(name="driver", value_type=ValueType.INT64)
    view = FeatureView(
        name="driver-stats", entities=[driver], ttl=timedelta(days=1), source=source,
        schema=[Field(name="speed", dtype=Float64)],
    )  # fmt: skip
    service = FeatureService(name="drivers_model", features=[view])
    both = dataclasses.replace(project, native=(driver, view, service))

    apply_project(both, SCHEMAS, open_store(repo, create=True))
    before = contents(repo)
    apply_project(both, SCHEMAS, open_store(repo))

    assert contents(repo) == before
    translated = view_of(open_store(repo).get_feature_view("driver-stats"), repo_path=repo)
    assert (translated.name, translated.keys, translated.feature_names) == (
        "driver-stats",
        ("driver",),
        ("speed",),
    )
    assert (translated.ttl, translated.source.created, translated.source.known_at) == (
        86_400_000_000,
        "made",
        None,
    )
    assert dict(translated.source.rename) == {"v": "speed"}

    apply_project(project, SCHEMAS, open_store(repo))

    fresh = open_store(repo)
    assert "driver-stats" not in {one.name for one in fresh.list_feature_views()}
    assert [one.name for one in fresh.list_feature_services()] == ["model"]
    assert "drivers" not in {one.name for one in fresh.list_data_sources()}


def test_materialisation_intervals_survive_a_change_of_the_view(project: Project, repo: Path) -> None:
    store = open_store(repo, create=True)
    apply_project(project, SCHEMAS, store)
    view = store.get_feature_view("delay")
    start, end = pd.Timestamp("2013-01-01", tz="UTC"), pd.Timestamp("2013-01-02", tz="UTC")
    store.registry.apply_materialization(view, "demo", start, end)

    changed = project.views["delay"].model_copy(update={"owner": "others@example.org"})
    apply_project(
        dataclasses.replace(project, views={**project.views, "delay": changed}, services={}), SCHEMAS, store
    )

    kept = open_store(repo).get_feature_view("delay")
    assert kept.owner == "others@example.org"
    assert kept.materialization_intervals == [(start, end)]


def test_a_failure_half_way_leaves_the_registry_as_it_was(
    project: Project, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(repo, create=True)
    apply_project(project, SCHEMAS, store)
    before = contents(repo)

    def broken(**_: object) -> None:
        raise OSError("the online store is gone")

    monkeypatch.setattr(store._get_provider(), "update_infra", broken)
    with pytest.raises(OSError, match="online store is gone"):
        apply_project(without(project, "delay"), SCHEMAS, store)

    assert contents(repo) == before
    assert "delay" in {view.name for view in store.list_feature_views()}
    assert "delay" in {view.name for view in open_store(repo).list_feature_views()}


def test_a_locked_registry_is_one_clear_error_and_changes_nothing(
    project: Project, repo: Path, other_connection: sqlite3.Connection
) -> None:
    store = open_store(repo, create=True)
    apply_project(project, SCHEMAS, store)
    before = contents(repo)
    other_connection.execute("BEGIN IMMEDIATE")

    with pytest.raises(RegistryError, match="is locked by another process") as caught:
        apply_project(without(project, "delay"), SCHEMAS, store)

    assert str(repo / "data" / "registry.db") in str(caught.value)
    other_connection.execute("ROLLBACK")
    assert contents(repo) == before


def test_a_registry_locked_against_reading_cannot_be_opened(
    project: Project, repo: Path, other_connection: sqlite3.Connection
) -> None:
    apply_project(project, SCHEMAS, open_store(repo, create=True))
    other_connection.execute("BEGIN EXCLUSIVE")

    with pytest.raises(RegistryError, match="is locked by another process"):
        open_store(repo)


def test_a_read_only_registry_is_readable_and_refuses_to_change(project: Project, repo: Path) -> None:
    apply_project(project, SCHEMAS, open_store(repo, create=True))
    before = contents(repo)
    configure(repo, f"sqlite:///file:{repo}/data/registry.db?mode=ro&uri=true")

    store = open_store(repo)

    assert not plan_project(project, SCHEMAS, store)
    with pytest.raises(RegistryError, match="is read-only"):
        apply_project(without(project, "delay"), SCHEMAS, store)
    assert contents(repo) == before


def test_reading_makes_no_registry_and_applying_makes_its_folder(project: Project, repo: Path) -> None:
    with pytest.raises(RegistryError, match=r"does not exist.*mlcore apply"):
        open_store(repo)
    assert not has_registry(repo)
    assert list(repo.iterdir()) == [repo / "feature_store.yaml"]

    open_store(repo, create=True)

    assert has_registry(repo)


def test_a_registry_in_a_folder_that_does_not_exist_is_refused(repo: Path, tmp_path: Path) -> None:
    configure(repo, f"sqlite:///{tmp_path}/nowhere/registry.db")

    with pytest.raises(RegistryError, match="its folder does not exist"):
        open_store(repo, create=True)


def test_a_file_that_is_no_database_is_refused_and_left_alone(repo: Path) -> None:
    (repo / "data").mkdir()
    (repo / "data" / "registry.db").write_text("something else entirely, long enough to have a header")

    with pytest.raises(RegistryError, match="is no SQLite database"):
        open_store(repo)

    assert (repo / "data" / "registry.db").read_text().startswith("something else")


def test_paths_start_at_the_repository_wherever_the_process_runs(
    project: Project, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    store: FeatureStore = open_store(repo, create=True)

    assert store.config.registry.path == f"sqlite:///{repo}/data/registry.db"
    assert (repo / "data" / "registry.db").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "does not exist"),
        ("a: [", "is no YAML"),
        ("just text", "is no mapping"),
        ("provider: local", "project"),
    ],
)
def test_a_wrong_feature_store_yaml_is_one_clear_error(repo: Path, text: str | None, what: str) -> None:
    file = repo / "feature_store.yaml"
    file.unlink() if text is None else file.write_text(text)

    with pytest.raises(ConfigError, match=what) as caught:
        open_store(repo)

    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
