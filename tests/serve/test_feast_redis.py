"""Our server in front of a repository of stock Feast: what Feast wrote to Redis, read as Feast reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from feast import FeatureStore, FeatureView, Field
from feast.types import Float64, String

from mlflow_core.config.clock import parse_clock
from mlflow_core.errors import ConfigError, ServeError, StoreError
from mlflow_core.feast.values import from_value
from mlflow_core.online.answer import Answer, Status
from mlflow_core.online.backend import Ask, AsyncReads, OnlineTable
from mlflow_core.online.feast_layout.form import FeastForm
from mlflow_core.online.redis.feast_layout import FeastRedisBackend
from mlflow_core.serve.features import Features
from mlflow_core.serve.run import Served, application
from tests.serve.shop import mlcore, running
from tests.serve.stock import ENTITIES, HOUR, KINDS, NOON, fill, stock_store
from tests.servers.certificates import make_certificates
from tests.servers.redis import Server, redis_cluster, redis_server

SERVICES = ("everything", "at_the_gate", "by_token", "outside", "renamed")


@dataclass(frozen=True)
class Stock:
    """A stock repository with rows in Redis."""

    root: Path
    store: FeatureStore
    server: Server


def opened(root: Path, at: datetime = NOON) -> Features:
    return Features.open(root / "feature_repo", parse_clock(at.isoformat()))


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Iterator[Stock]:
    with redis_server() as server:
        root = tmp_path_factory.mktemp("stock")
        with stock_store(root, f"127.0.0.1:{server.port}") as store:
            fill(store)
            yield Stock(root, store, server)


@pytest.fixture(scope="module")
def features(stock) -> Iterator[Features]:
    features = opened(stock.root)
    yield features
    features.close()


def asked(features: Features, service: str) -> Answer:
    served = features.service(service)
    columns = {name: ENTITIES[name.replace("friend_id", "user_id")] for name in served.columns}
    return features.answer(served, columns)


def of_feast(store: FeatureStore, service: str, keys: list[str]) -> dict[str, list]:
    """What Feast's own SDK answers, by column, as our values."""
    n = len(ENTITIES["user_id"])
    rows = [{key: ENTITIES[key.replace("friend_id", "user_id")][i] for key in keys} for i in range(n)]
    response = store.get_online_features(store.get_feature_service(service), rows if keys else [{"any": 1}])
    names = response.proto.metadata.feature_names.val
    return {
        name: [from_value(value) for value in vector.values]
        for name, vector in zip(names, response.proto.results, strict=True)
        if name not in (*keys, "any")
    }


def as_stored(value):
    """A value with times as our stores have them."""
    if isinstance(value, list):
        return [as_stored(one) for one in value]
    return int(value.timestamp()) * 1_000_000 if hasattr(value, "timestamp") else value


def compared(features: Features, store: FeatureStore, service: str) -> Answer:
    """Compare an answer with Feast's, value by value; it may lack what Feast says though it is too old."""
    answer = asked(features, service)
    truth = of_feast(store, service, list(features.service(service).keys))
    assert set(truth) == set(answer.columns)  # Feast's order changes with PYTHONHASHSEED
    for name, values in answer.columns.items():
        statuses = answer.statuses[name]
        for ours, status, theirs in zip(values, statuses, truth[name], strict=True):
            if status is not Status.OUTSIDE_MAX_AGE:
                assert as_stored(ours) == theirs, name
                assert (ours is None) == (status in (Status.NULL_VALUE, Status.NOT_FOUND))
    return answer


def test_every_service_of_stock_feast_compiles(features):
    assert set(features.catalogue.services) == set(SERVICES)
    assert features.catalogue.problems == {}
    assert features.store_problem() is None


@pytest.mark.parametrize("service", SERVICES)
def test_values_are_those_that_feast_reads(stock, features, service):
    compared(features, stock.store, service)


def test_the_types_that_feast_can_store_come_back_as_they_were_written(features):
    answer = asked(features, "everything")
    for name in ("flag", "big", "small", "ratio", "name", "raw", "extra", "bigs", "names", "raws", "times"):
        assert answer.columns[name][:3] == KINDS[name][1], name
    assert set(KINDS) <= set(answer.columns)
    assert [str(one) for one in answer.columns["ident"][:2]] == KINDS["ident"][1][:2]


def test_statuses_are_ours_null_unknown_and_too_old(features):
    answer = asked(features, "everything")
    present, null, unknown = Status.PRESENT, Status.NULL_VALUE, Status.NOT_FOUND
    late = Status.OUTSIDE_MAX_AGE
    assert list(answer.statuses["flag"]) == [present, present, null, unknown, unknown, present]
    assert list(answer.statuses["total"]) == [present, null, unknown, present, unknown, null]
    assert list(answer.statuses["old"]) == [late, late, late, unknown, unknown, late]
    assert answer.columns["old"] == [None] * 6


def test_ttl_counts_at_the_clock_to_the_microsecond(stock):
    # User 1's row of "spending" is an hour and 123,456 microseconds older than noon, its TTL is 48 hours.
    edge = NOON - HOUR - timedelta(microseconds=123_456) + 48 * HOUR
    for at, status in ((edge, Status.PRESENT), (edge + timedelta(microseconds=1), Status.OUTSIDE_MAX_AGE)):
        features = opened(stock.root, at)
        answer = asked(features, "everything")
        features.close()
        assert answer.statuses["total"][0] is status
    assert answer.event_times["total"][0] == int((edge - 48 * HOUR).timestamp() * 1e6)


def test_many_rows_and_null_keys_keep_the_callers_order(features):
    served = features.service("at_the_gate")
    rows = [("EWR", 1, 1), (None, 1, 2), ("JFK", -2, 4), ("JFK", 1, None), ("EWR", 1, 1)] * 40
    columns = dict(zip(("origin", "a_gate", "user_id"), map(list, zip(*rows, strict=True)), strict=True))
    answer = features.answer(served, columns)
    assert answer.columns["wait"] == [1.0, None, 3.0, 2.0, 1.0] * 40
    assert answer.columns["orders"] == [3, 4, 5, None, 3] * 40


def test_a_number_that_its_key_column_cannot_hold_is_said(features):
    columns = {"origin": ["EWR"], "a_gate": [2**31], "user_id": [1]}
    with pytest.raises(ServeError, match=r'"a_gate" was given 2147483648.*int32'):
        features.answer(features.service("at_the_gate"), columns)


def test_the_server_answers_feasts_requests_from_feasts_rows(stock):
    served = application(Served(str(stock.root), clock=NOON.isoformat()))
    truth = of_feast(stock.store, "at_the_gate", ["origin", "a_gate", "user_id"])
    entities = {name: ENTITIES[name] for name in ("origin", "a_gate", "user_id")}
    with running(served) as url, httpx.Client(base_url=url, timeout=30.0) as http:
        for body in (
            {"feature_service": "at_the_gate", "entities": entities},
            {"features": ["gates:wait", "gates:label", "spending:orders"], "entities": entities},
        ):
            found = http.post("/get-online-features", json=body)
            assert found.status_code == 200, found.text
            names = found.json()["metadata"]["feature_names"]
            values = [result["values"] for result in found.json()["results"]]
            assert dict(zip(names, values, strict=True)) == {**entities, **truth}
        ours = http.post(
            "/v1/features", json={"service": "everything", "entities": [{"user_id": 1}, {"user_id": 99}]}
        )
        assert ours.status_code == 200, ours.text
        assert ours.json()["features"]["bigs"] == [[1, -1, 2**40], None]
        assert http.get("/readyz").status_code == 200
        token = {"authorization": "Bearer may-push-and-delete-here"}
        for refused in (
            http.post("/push", json={"push_source_name": "any", "df": {}}, headers=token),
            http.request("DELETE", "/v1/entities/user", json={"user_id": 1}, headers=token),
        ):
            assert refused.status_code == 501, refused.text
            assert "that Feast writes" in refused.json()["error"]
        assert http.post("/push", json={"push_source_name": "any", "df": {}}).status_code == 401


def test_the_command_gets_features_of_it(stock, capsys):
    words = ["features", "get", "everything", "--at", NOON.isoformat(), "user_id=1"]
    assert mlcore(stock.root, *words) == 0
    assert "Zoë" in capsys.readouterr().out


@pytest.mark.parametrize(("registry_type", "key_version"), [("file", 3), ("sql", 2)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Serialization of entity key")
def test_a_registry_in_a_file_and_the_older_spelling_of_keys_are_read(
    stock, tmp_path, registry_type, key_version
):
    connection = f"127.0.0.1:{stock.server.port},db={key_version}"
    with stock_store(tmp_path, connection, registry_type=registry_type, key_version=key_version) as store:
        everything_is_read(tmp_path, store)


def test_a_cluster_is_read(tmp_path):
    with redis_cluster() as cluster:
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)
        with stock_store(tmp_path, nodes, online="  redis_type: redis_cluster\n") as store:
            features = everything_is_read(tmp_path, store)
        assert read_async(features.store) == features.store.read(ASKS)
        features.close()


def test_passwords_and_tls_are_those_of_the_connection_string(tmp_path):
    files = make_certificates(tmp_path)
    options = ("--tls-cert-file", files.cert, "--tls-key-file", files.key, "--tls-ca-cert-file", files.ca)
    with redis_server(*options, "--requirepass", "1234", scheme="rediss") as server:
        tls = f"ssl=true,ssl_ca_certs={files.ca},ssl_certfile={files.client_cert},ssl_keyfile={files.client_key}"
        connection = f"127.0.0.1:{server.port},{tls},password="
        with stock_store(tmp_path, connection + "1234") as store:
            everything_is_read(tmp_path, store)
        wrong = FeastRedisBackend(connection + "4321", "stock")
        with pytest.raises(StoreError, match="WRONGPASS") as refused:
            wrong.read(ASKS)
        assert "4321" not in str(refused.value)


def everything_is_read(root: Path, store: FeatureStore) -> Features:
    fill(store)
    features = opened(root)
    for service in SERVICES:
        compared(features, store, service)
    features.close()  # its connections; it opens others when it is used again
    return features


ASKS = [
    Ask(("user_id",), ("spending", "stale"), [FeastForm().key_encoder([("user_id", "int64")])((1,))] * 2,
        (("total",), ("old",))),
    Ask(("user_id",), (), [b"k"], ()),
    Ask(("user_id",), ("spending",), [], (("total",),)),
    Ask(("user_id",), ("spending",), [b"nobody"], (("total", "orders"),)),
]  # fmt: skip


def read_async(store):
    async def read():
        try:
            return await store.read_async(ASKS)
        finally:
            await store.close_async()

    return asyncio.run(read())


def test_reading_on_an_event_loop_finds_the_same(features):
    assert isinstance(features.store, AsyncReads)
    found = features.store.read(ASKS)
    assert [len(one) for one in found] == [2, 1, 0, 1]
    assert [len(row) for row in found[0][0]] == [2, 2]
    assert found[3] == [([None] * 3,)]
    assert read_async(features.store) == found


def test_something_else_under_an_entitys_name_is_said(stock, features):
    with stock.server.client() as client:
        client.set(b"nobodystock", b"text")
        try:
            for read in (features.store.read, lambda _: read_async(features.store)):
                with pytest.raises(StoreError, match="WRONGTYPE"):
                    read(ASKS)
        finally:
            client.delete(b"nobodystock")


def test_entities_that_nobody_knows_are_not_found(features):
    answer = features.answer(features.service("everything"), {"user_id": [77, None]})
    assert {status for column in answer.statuses.values() for status in column} == {Status.NOT_FOUND}
    assert answer.columns["name"] == [None, None]


def test_nothing_writes_what_is_feasts(stock, features):
    store, table = features.store, OnlineTable("spending", ("user_id",))
    with stock.server.client() as client:
        before = client.dbsize()
        for write in (
            lambda: store.declare(table, b"12345678"),
            lambda: store.write(table, []),
            lambda: store.erase(ASKS),
            lambda: store.keys(table),
            lambda: store.drop(),
            lambda: store.begin(table, 1),
            lambda: store.finish(table, 1),
        ):
            with pytest.raises(StoreError, match="is written by Feast, and only read here"):
                write()
        assert client.dbsize() == before
    assert store.unfinished() == {}


def test_a_feature_whose_type_has_changed_is_said_and_not_guessed(stock, tmp_path):
    user, before = stock.store.get_entity("user"), stock.store.get_feature_view("spending")
    changed = FeatureView(
        name="spending",
        entities=[user],
        schema=[
            *before.entity_columns,
            Field(name="total", dtype=String),
            Field(name="orders", dtype=Float64),
        ],
        source=before.batch_source,
    )
    with stock_store(tmp_path, f"127.0.0.1:{stock.server.port}") as store:
        store.apply([user, changed])
        features = opened(tmp_path)
    served = features.asked(None, ("spending:total",))
    told = r'FeatureView "spending".*feature "total".*of type float64.*string'
    with pytest.raises(StoreError, match=told):
        features.answer(served, {"user_id": [1]})
    features.close()


@pytest.mark.parametrize(
    ("find", "put", "told"),
    [
        ("type: redis", "type: sqlite", 'type is "sqlite".*PackedOnlineStore or redis'),
        ("type: redis", "type: redis\n  redis_type: redis_sentinel", 'redis_type is "redis_sentinel"'),
        ("registry:", "registry:\n  enable_online_feature_view_versioning: true", "rows of each version"),
        ("entity_key_serialization_version: 3", "entity_key_serialization_version: 4", "2 or 3"),
    ],
)
def test_a_store_that_cannot_be_read_is_refused_when_it_is_opened(stock, tmp_path, find, put, told):
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    text = (stock.root / "feature_repo" / "feature_store.yaml").read_text().replace(find, put, 1)
    if "sqlite" in put:
        text = "\n".join(line for line in text.splitlines() if "connection_string" not in line)
    (repo / "feature_store.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        Features.open(repo, parse_clock("system"))


def test_a_redis_that_goes_away_is_said(tmp_path):
    with redis_server() as server, stock_store(tmp_path, f"127.0.0.1:{server.port}") as store:
        fill(store)
        features = opened(tmp_path)
        asked(features, "by_token")
        server.kill()
        with pytest.raises(StoreError, match="Redis"):
            asked(features, "by_token")
        assert "Redis" in (features.store_problem() or "")
        features.close()
