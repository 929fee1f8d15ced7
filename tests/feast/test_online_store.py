"""Feast's public API on the packed online store: a small real repository of native Feast objects, and ours."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import (
    FeatureService,
    Field,
    RequestSource,
)
from feast.data_source import PushMode
from feast.errors import FeatureViewNotFoundException
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

from mlflow_core.errors import ServeError, StoreError
from mlflow_core.feast.online_request import feasts_resolution, resolve
from mlflow_core.feast.online_store import PackedOnlineStoreConfig
from mlflow_core.feast.stored_view import schema_of_stored, stored_view
from mlflow_core.online.backend import Ask
from mlflow_core.online.keys import encode_key
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.online.write import EVENT_TIME
from tests.feast.online_repository import (
    AIRPORT,
    CARRIER,
    HOUR,
    NOON,
    delays_view,
    rows,
    statuses_of,
    store_in,
    weather_view,
)
from tests.online.writing import write_table
from tests.servers.online import BACKENDS, online_section


@pytest.fixture(scope="module")
def applied(tmp_path_factory):
    """A folder with the two views applied and their files' rows written; tests work on copies."""
    folder = tmp_path_factory.mktemp("applied")
    store = store_in(folder / "repo")
    store.apply([CARRIER, AIRPORT, delays_view(folder), weather_view(folder)])
    for view in ("delays", "weather"):
        store.write_to_online_store(view, pq.read_table(folder / f"{view}.parquet").to_pandas())
    asyncio.run(store._get_provider().online_store.close())
    return folder


@pytest.fixture(scope="module", params=BACKENDS)
def section(request):
    """The online store's section; SQLite's file is each test's own."""
    with online_section(request.param) as section:
        yield {**section, "clock": "2013-11-15T12:00Z"}


@pytest.fixture
def repo(applied, section, tmp_path):
    shutil.copytree(applied, tmp_path, dirs_exist_ok=True)
    store = store_in(tmp_path / "repo", section)
    if section["backend"] != "sqlite":  # what a server holds is no file to be copied
        backend = store._get_provider().online_store.backend(store.config)
        backend.drop()
        for view in ("delays", "weather"):
            store.write_to_online_store(view, pq.read_table(tmp_path / f"{view}.parquet").to_pandas())
    yield store
    asyncio.run(store._get_provider().online_store.close())


def test_statuses_say_what_is_there_null_too_old_and_unknown(repo):
    response = repo.get_online_features(
        ["delays:flights", "delays:delay"], rows(carrier=["DL", "UA", "AA", "??", "UA"])
    )
    assert response.to_dict() == {
        "carrier": ["DL", "UA", "AA", "??", "UA"],
        "flights": [None, 10, None, None, 10],
        "delay": [None, 5.0, None, None, 5.0],
    }
    told = ["OUTSIDE_MAX_AGE", "PRESENT", "NULL_VALUE", "NOT_FOUND", "PRESENT"]
    assert statuses_of(response) == {"carrier": ["PRESENT"] * 5, "flights": told, "delay": told}
    times = response.proto.results[1].event_timestamps
    assert [time.ToDatetime(UTC) for time in times[:2]] == [NOON - 2 * HOUR, NOON - HOUR / 2]


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_stock_feast_serves_what_is_past_its_ttl_and_ours_does_not(backend, tmp_path):
    """Fault 5: the same rows, the same request, the system's clock."""
    found = {}
    with online_section(backend) as section:
        stock = {"type": "sqlite", "path": str(tmp_path / "stock.db")}
        if backend == "redis":
            address = section["connection"].removeprefix("redis://")
            stock = {"type": "redis", "connection_string": address}
        for name, online in {"stock": stock, "ours": section}.items():
            found[name] = served_past_its_ttl(tmp_path, name, online)
    assert found["stock"] == ([5.0, None], ["PRESENT", "PRESENT"])
    assert found["ours"] == ([None, None], ["OUTSIDE_MAX_AGE", "NULL_VALUE"])


def served_past_its_ttl(folder, name, online):
    store = store_in(folder / name, online)
    store.apply([CARRIER, delays_view(folder, ttl=timedelta(days=1))])
    frame = pd.DataFrame(
        {
            "carrier": ["UA", "AA"],
            "delay": [5.0, None],
            "flights": [1, 2],
            "event_timestamp": [datetime.now(UTC) - timedelta(days=10), datetime.now(UTC)],
            "created": [datetime.now(UTC)] * 2,
        }
    )
    store.write_to_online_store("delays", frame)
    response = store.get_online_features(["delays:delay"], rows(carrier=["UA", "AA"]))
    asyncio.run(store.close())
    return response.to_dict()["delay"], statuses_of(response)["delay"]


def test_several_views_are_answered_in_the_order_asked_with_full_names(repo):
    response = repo.get_online_features(
        ["weather:temp", "delays:flights", "delays:delay"],
        {"carrier": ["UA", "UA"], "airport": ["JFK", "LGA"]},
        full_feature_names=True,
    )
    got = response.to_dict()
    assert list(got) == ["airport", "carrier", "weather__temp", "delays__flights", "delays__delay"]
    assert got["weather__temp"] == [2.5, None]
    assert statuses_of(response)["weather__temp"] == ["PRESENT", "NOT_FOUND"]


def test_a_feature_service_reads_one_view_under_two_names(repo):
    weather = repo.get_feature_view("weather")
    service = FeatureService(
        name="route",
        features=[
            repo.get_feature_view("delays")[["delay"]],
            weather.with_name("origin").with_join_key_map({"airport": "origin_airport"}),
            weather.with_name("dest").with_join_key_map({"airport": "dest_airport"}),
        ],
    )
    repo.apply([service])
    response = repo.get_online_features(
        repo.get_feature_service("route"),
        rows(carrier=["UA", "DL"], origin_airport=["EWR", "JFK"], dest_airport=["JFK", "??"]),
        full_feature_names=True,
    )
    got = response.to_dict()
    assert got["origin__temp"] == [1.5, 2.5]
    assert got["dest__temp"] == [2.5, None]
    assert got["delays__delay"] == [5.0, None]
    assert statuses_of(response)["dest__temp"] == ["PRESENT", "NOT_FOUND"]


def push(store, delay, event, created):
    frame = pd.DataFrame(
        {
            "carrier": ["UA"],
            "delay": [delay],
            "flights": [1],
            "event_timestamp": [event],
            "created": [created],
        }
    )
    store.push("delays_push", frame, to=PushMode.ONLINE)


def test_a_push_is_not_lost_to_an_older_row_and_destroys_no_newer_one(repo, tmp_path):
    def current():
        return repo.get_online_features(["delays:delay"], rows(carrier=["UA"])).to_dict()["delay"]

    push(repo, 50.0, NOON - HOUR / 4, NOON)
    assert current() == [50.0]
    push(repo, 40.0, NOON - HOUR / 2, NOON + HOUR)
    assert current() == [50.0], "an older event, though created later"
    repo.write_to_online_store("delays", pq.read_table(tmp_path / "delays.parquet").to_pandas())
    assert current() == [50.0], "the batch comes again"
    push(repo, 60.0, NOON - HOUR / 4, NOON - HOUR)
    assert current() == [50.0], "an older version of the same event"
    push(repo, 70.0, NOON - HOUR / 4, NOON + HOUR)
    assert current() == [70.0], "a correction"


def test_materialised_rows_need_no_protobuf_and_have_the_types_of_the_view(repo):
    weather = repo.get_feature_view("weather")
    online = repo._get_provider().online_store
    table = pa.table(
        {
            "airport": ["LGA", None],
            "temp": pa.array([9.25, 1.0], pa.float64()),
            EVENT_TIME: pa.array([NOON, NOON], pa.timestamp("us", "UTC")),
        }
    )
    assert (
        write_table(
            online.backend(repo.config), stored_view(weather), table, 0, schema_of_stored(weather)
        ).changed
        == 1
    )
    assert repo.get_online_features(["weather:temp"], rows(airport=["LGA"])).to_dict()["temp"] == [9.25]
    assert online.clock(repo.config).now_us() == int(NOON.timestamp()) * 1_000_000


def test_native_on_demand_views_are_computed_by_feast_on_our_values(repo):
    request = RequestSource(name="request", schema=[Field(name="distance", dtype=Float64)])

    @on_demand_feature_view(
        sources=[repo.get_feature_view("delays"), request],
        schema=[Field(name="per_mile", dtype=Float64)],
        mode="pandas",
    )
    def ratio(inputs: pd.DataFrame) -> pd.DataFrame:
        frame = pd.DataFrame()
        frame["per_mile"] = inputs["delay"] / inputs["distance"]
        return frame

    repo.apply([ratio])
    response = repo.get_online_features(
        ["ratio:per_mile", "delays:flights"], rows(carrier=["UA", "??"], distance=[10.0, 10.0])
    )
    assert response.to_dict() == {"carrier": ["UA", "??"], "per_mile": [0.5, None], "flights": [10, None]}
    assert statuses_of(response)["per_mile"] == ["PRESENT", "NULL_VALUE"]
    with pytest.raises(ServeError, match='no column "distance"'):
        repo.get_online_features(["ratio:per_mile"], rows(carrier=["UA"]))


def test_async_answers_are_the_same(repo):
    asked = (["delays:delay"], rows(carrier=["UA", "DL"]))
    response = asyncio.run(repo.get_online_features_async(*asked))
    assert response.to_dict() == repo.get_online_features(*asked).to_dict()


def test_entity_rows_that_cannot_be_answered_are_named(repo):
    with pytest.raises(ServeError, match=r'no column "carrier".*Did you mean "carier"'):
        repo.get_online_features(["delays:delay"], rows(carier=["UA"]))
    with pytest.raises(ServeError, match='rows 0 and 1 do not have the same columns: "airport"'):
        repo.get_online_features(["delays:delay"], [{"carrier": "UA"}, {"airport": "JFK"}])
    with pytest.raises(
        ServeError, match=r'entity row 1: key column "carrier" was given 7 \(int\).*Expected string'
    ):
        repo.get_online_features(["delays:delay"], rows(carrier=["UA", 7]))
    with pytest.raises(FeatureViewNotFoundException):
        repo.get_online_features(["delay:delay"], rows(carrier=["UA"]))
    assert repo.get_online_features(["delays:delay"], []).to_dict() == {"carrier": [], "delay": []}
    assert repo.get_online_features(["delays:delay"], rows(carrier=[None])).to_dict()["delay"] == [None]


def test_a_view_that_was_changed_and_applied_says_so_until_it_is_written_again(repo, tmp_path):
    changed = delays_view(tmp_path)
    changed.schema.append(Field(name="late", dtype=Float64))
    changed.features.append(Field(name="late", dtype=Float64))
    repo.apply([changed])
    with pytest.raises(StoreError, match=r'"delays".*another definition.*materialise the view again'):
        repo.get_online_features(["delays:delay"], rows(carrier=["UA"]))
    frame = pq.read_table(tmp_path / "delays.parquet").to_pandas().assign(late=1.0)
    repo.write_to_online_store("delays", frame)
    assert repo.get_online_features(["delays:late"], rows(carrier=["UA"])).to_dict()["late"] == [1.0]


def test_a_deleted_view_is_dropped_and_teardown_leaves_other_projects_alone(repo, section, tmp_path):
    other = store_in(tmp_path / "repo", section, project="other", registry="other.db")
    other.apply([AIRPORT, weather_view(tmp_path)])
    other.write_to_online_store("weather", pq.read_table(tmp_path / "weather.parquet").to_pandas())
    backend = repo._get_provider().online_store.backend(repo.config)
    mine = Ask(("carrier",), ("delays",), [encode_key(("UA",))])
    assert backend.read([mine])[0][0][0] is not None
    repo.delete_feature_view("delays")
    repo.teardown()
    assert [list(row) for row in backend.read([mine])[0]] == [[None]]
    assert other.get_online_features(["weather:temp"], rows(airport=["EWR"])).to_dict()["temp"] == [1.5]
    if isinstance(backend, SqliteBackend):
        views = backend._mine().execute("SELECT project, name FROM views").fetchall()
        assert views == [("other", "weather")]
    asyncio.run(other._get_provider().online_store.close())


def test_a_wrong_clock_in_the_configuration_is_named():
    with pytest.raises(ValueError, match='"noon" is not a clock'):
        PackedOnlineStoreConfig(clock="noon")


def test_a_refreshed_registry_is_never_read_from_feasts_cache_of_a_former_one(repo):
    """Feast caches views by the registry's address in memory, which a later registry may have again."""
    view = repo.get_feature_view("delays")
    for hours in range(1, 25):
        view.ttl = hours * HOUR
        repo.registry.apply_feature_view(view, repo.project)
        repo.refresh_registry()
        request = resolve(
            feasts_resolution(["delays:delay"], repo.registry, repo.project, False), full_feature_names=False
        )
        assert request.plan.reads[0].view.ttl == hours * 3_600_000_000
