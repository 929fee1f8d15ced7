"""A cluster of three: slots that move, nodes that die, and what a single node says of it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from mlflow_core.errors import StoreError, StoreTimeout
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.testing.online_contract import stored
from tests.servers.certificates import make_certificates
from tests.servers.redis import redis_cluster

V = OnlineTable("v", ("id",))
ROWS = [stored(b"%d" % i, 1) for i in range(3_000)]


@pytest.fixture(scope="module")
def cluster():
    with redis_cluster() as started:
        yield started


@pytest.fixture
def backend(cluster):
    cluster.flush()
    opened = RedisBackend(cluster.url, "p", timeout_s=1.0)
    yield opened
    opened.close()


def ask(*at):
    return [Ask(("id",), ("v",), [ROWS[i][0] for i in at])]


def answer(*at):
    return [[[ROWS[i][1]] for i in at]]


def move_slots(cluster, slots):
    """Move slots with their keys to the next node, as ``redis-cli --cluster reshard`` does."""
    clients = [server.client() for server in cluster.servers]
    ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]
    for slot in slots:
        owner = next(i for i in range(3) if slot < (i + 1) * 16384 // 3)
        heir = (owner + 1) % 3
        clients[heir].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[owner])
        clients[owner].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[heir])
        while keys := clients[owner].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            port = cluster.servers[heir].port
            clients[owner].execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5_000, "KEYS", *keys)
        for i in (heir, owner, 3 - heir - owner):
            clients[i].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[heir])
    for client in clients:
        client.close()


def test_a_command_that_names_no_node_is_not_left_out(backend):
    with pytest.raises(TypeError, match="which node"):
        backend._executed(iter([b"*1\r\n$4\r\nPING\r\n"]), None)


def test_rows_are_spread_and_read_in_order_from_all_nodes(cluster, backend):
    assert backend.write(V, ROWS) == 3_000
    sizes = []
    for server in cluster.servers:
        with server.client() as client:
            sizes.append(client.dbsize())
    assert min(sizes) > 500
    assert backend.read(ask(*range(3_000))) == answer(*range(3_000))
    assert asyncio.run(backend.read_async(ask(7, 1, 7))) == answer(7, 1, 7)


def test_a_single_node_says_that_it_is_one_of_a_cluster(cluster):
    one = RedisBackend(cluster.servers[0].url, "p")
    failures = []
    for row in ROWS[:20]:
        try:
            one.write(V, [row])
        except StoreError as error:
            failures.append(str(error))
    one.close()
    assert len(failures) > 5
    assert all("redis+cluster://" in failure for failure in failures)


def test_slots_that_move_while_rows_are_written_and_read_lose_nothing(cluster, backend):
    """60 slots with their keys go to other nodes meanwhile; they go back afterwards by nobody's order."""
    backend.write(V, ROWS)
    moved, failures = threading.Event(), []

    def work():
        time_of_row = 1
        try:
            while not moved.is_set() or time_of_row < 4:
                time_of_row += 1
                rows = [stored(key, time_of_row) for key, _ in ROWS]
                assert backend.write(V, rows) == 3_000
                assert backend.read(ask(*range(3_000))) == [[[value] for _, value in rows]]
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        move_slots(cluster, range(100, 16384, 273))
    finally:
        moved.set()
        worker.join()
    assert failures == []


def test_a_cluster_that_forgot_the_scripts_is_told_them_again(cluster, backend):
    backend.write(V, ROWS)
    for server in cluster.servers:
        with server.client() as client:
            client.script_flush()
    assert backend.write(V, [stored(key, 2) for key, _ in ROWS]) == 3_000


def test_a_late_writer_stops_where_the_definition_was_replaced(backend, monkeypatch):
    """The definition is checked before every some thousand rows."""
    monkeypatch.setattr("mlflow_core.online.redis.backend._ROWS_BETWEEN_CHECKS", 100)
    written = backend._stored_by_slot
    calls = []

    def declared_meanwhile(*args):
        calls.append(1)
        if len(calls) == 3:
            backend.declare(V, b"schema-2")
        return written(*args)

    monkeypatch.setattr(backend, "_stored_by_slot", declared_meanwhile)
    with pytest.raises(
        StoreError, match=r"definition that has been replaced.*A part of the rows may be written"
    ):
        backend.write(V, ROWS)
    found = [row[0] for row in backend.read(ask(*range(3_000)))[0]]
    assert found == [value for _, value in ROWS[:200]] + [None] * 2_800
    with pytest.raises(StoreError, match="definition that has been replaced") as refused:
        backend.write(V, ROWS)
    assert "A part" not in str(refused.value)


def test_all_of_a_project_goes_from_all_nodes(cluster, backend):
    backend.write(V, ROWS)
    other = RedisBackend(cluster.url, "p2")
    other.write(V, ROWS[:50])
    backend.drop()
    left = 0
    for server in cluster.servers:
        with server.client() as client:
            left += client.dbsize()
    assert left == 51
    other.close()


def test_a_cluster_is_spoken_to_in_tls(tmp_path):
    """With both sides' certificates, to every node; and a wrong authority is told."""
    files = make_certificates(tmp_path)
    with redis_cluster(files) as cluster:
        client = f"ssl_certfile={files.client_cert}&ssl_keyfile={files.client_key}"
        backend = RedisBackend(f"{cluster.tls_url}?ssl_ca_certs={files.ca}&{client}", "p")
        assert backend.write(V, ROWS) == 3_000
        assert backend.read(ask(*range(3_000))) == answer(*range(3_000))
        assert {node.port for node in backend._connections.cluster._opened().get_primaries()} == set(
            cluster.tls_ports
        )
        backend.close()
        stranger = RedisBackend(f"{cluster.tls_url}?{client}", "p")
        with pytest.raises(StoreError, match=r"rediss\+cluster://.*CERTIFICATE_VERIFY_FAILED"):
            stranger.read(ask(1))


def test_a_node_that_hangs_or_dies_is_said_and_the_cluster_is_used_again_when_it_is_back():
    """Its own cluster, since a node is killed; nothing was saved there, so its keys are gone."""
    with redis_cluster() as cluster:
        backend = RedisBackend(cluster.url, "p", timeout_s=0.5)
        backend.write(V, ROWS)
        cluster.servers[1].pause()
        try:
            with pytest.raises(StoreTimeout, match=r"no answer within 0\.5 s"):
                backend.read(ask(*range(3_000)))
            with pytest.raises(StoreTimeout, match="writing all of them again is harmless"):
                backend.write(V, ROWS)
        finally:
            cluster.servers[1].resume()
        assert backend.read(ask(*range(3_000))) == answer(*range(3_000))
        cluster.servers[1].kill()
        started = time.monotonic()
        with pytest.raises(StoreError, match=r"redis\+cluster://"):
            backend.read(ask(*range(3_000)))
        assert time.monotonic() - started < 10
        cluster.servers[1].start()
        deadline = time.monotonic() + 30
        while True:
            try:
                backend.write(V, ROWS)
                break
            except StoreError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert backend.read(ask(*range(3_000))) == answer(*range(3_000))
        backend.close()


def test_a_cluster_that_is_not_there_is_named():
    backend = RedisBackend("redis+cluster://:secret@127.0.0.1:1,127.0.0.1:2", "p", timeout_s=0.5)
    for fails in (lambda: backend.read(ask(1)), lambda: backend.write(V, ROWS), backend.drop):
        with pytest.raises(
            StoreError, match=r"redis\+cluster://127.0.0.1:1,127.0.0.1:2: no connection.*Is it running"
        ) as failed:
            fails()
        assert "secret" not in str(failed.value)
