"""What only Redis does: logins, certificates, sockets, its refusals and restarts."""

from __future__ import annotations

import socket
import struct
import threading
import time

import numpy as np
import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.errors import StoreError, StoreTimeout
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.online.rows import RowBlock
from mlflow_core.testing.online_contract import stored
from tests.online.asking import ask, read_async
from tests.servers.certificates import make_certificates
from tests.servers.redis import redis_server

V, W = OnlineTable("v", ("id",)), OnlineTable("w", ("id",))
NOBODY = "redis://127.0.0.1:1"


@pytest.fixture(scope="module")
def server():
    with redis_server() as started:
        yield started


@pytest.fixture
def opened():
    """Open backends that are closed after the test."""
    backends = []

    def open_backend(url, project="p", **options):
        backends.append(RedisBackend(url, project, FixedClock(1_000), **options))
        return backends[-1]

    yield open_backend
    for backend in backends:
        backend.close()


@pytest.fixture
def backend(server, opened):
    server.flush()
    return opened(server.url)


def works(backend):
    """Write, read both ways, erase and drop."""
    row = stored(b"k", 1)
    assert backend.write(V, [row]) == 1
    assert backend.read(ask(b"k")) == read_async(backend, ask(b"k")) == [[[row[1]]]]
    assert backend.erase(ask(b"k")) == 1
    assert list(backend.keys(V)) == [b"k"]
    backend.begin(V, 1)
    backend.finish(V, 1)
    backend.drop(["v"])
    backend.drop()


def every_way(backend):
    """All that can fail, by name."""
    return {
        "write": lambda: backend.write(V, [stored(b"k", 1)]),
        "read": lambda: backend.read(ask(b"k")),
        "read_async": lambda: read_async(backend, ask(b"k")),
        "erase": lambda: backend.erase(ask(b"k")),
        "keys": lambda: list(backend.keys(V)),
        "declare": lambda: backend.declare(V, b"schema-A"),
        "begin": lambda: backend.begin(V, 1),
        "finish": lambda: backend.finish(V, 1),
        "unfinished": backend.unfinished,
        "drop": backend.drop,
        "drop a view": lambda: backend.drop(["v"]),
    }


def refused_write(backend, rows, failed):
    """Write, and note the error."""
    with pytest.raises(StoreError) as refused:
        backend.write(V, rows)
    failed.append(refused.value)


def test_a_server_that_is_not_there_is_named_with_what_to_look_at(opened):
    for name, fails in every_way(opened(NOBODY)).items():
        with pytest.raises(
            StoreError, match=r"redis://127\.0\.0\.1:1: no connection to Redis.*Is it running"
        ):
            pytest.fail(f"{name}: {fails()}")


def test_a_password_is_asked_for_checked_and_never_shown(opened):
    with redis_server("--requirepass", "secret") as server:
        place = f"127.0.0.1:{server.port}"
        for url, told in (
            (server.url, "NOAUTH.*Put the password"),
            (f"redis://:wrong1@{place}", "WRONGPASS.*Look"),
        ):
            for fails in every_way(opened(url)).values():
                with pytest.raises(StoreError, match=told) as refused:
                    fails()
                assert "wrong1" not in str(refused.value)
        works(opened(f"redis://:secret@{place}"))
        works(opened(f"redis://default:secret@{place}/3"))


def test_a_user_needs_only_what_is_said_and_is_told_what_is_missing(server, opened):
    commands = "+hmget +hget +hset +hsetnx +hdel +hexists +hgetall +eval +evalsha +scan +unlink +ping"
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "features", "reset", "on", ">pa:ss", "~mlc:*", *commands.split()
        )
        client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">pass", "~mlc:*", "+hmget")
    works(opened(f"redis://features:pa%3Ass@127.0.0.1:{server.port}"))
    reader = opened(f"redis://reader:pass@127.0.0.1:{server.port}")
    reader.read(ask(b"k"))
    with pytest.raises(StoreError, match=r"NOPERM.*The user needs the commands HMGET"):
        reader.write(V, [stored(b"k", 1)])


def test_a_database_and_a_socket_are_used_as_they_are_named(server, opened):
    server.flush()
    works(opened(server.url + "/5"))
    opened(server.url + "/5").write(V, [stored(b"k", 1)])
    with server.client() as client:
        assert client.info("keyspace").keys() == {"db5"}
    with pytest.raises(StoreError, match="out of range"):
        opened(server.url + "/99").read(ask(b"k"))
    with pytest.raises(StoreError, match="out of range"):
        read_async(opened(server.url + "/99"), ask(b"k"))
    with redis_server(scheme="unix") as other:
        works(opened(other.url))
        works(opened(other.url + "?db=2"))
    with pytest.raises(StoreError, match="no connection to Redis: No such file"):
        opened(other.url).read(ask(b"k"))
    with pytest.raises(StoreError, match="no connection to Redis: No such file"):
        read_async(opened(other.url), ask(b"k"))


def test_tls_is_spoken_and_both_sides_are_checked(tmp_path, opened):
    files = make_certificates(tmp_path)
    options = ("--tls-cert-file", files.cert, "--tls-key-file", files.key, "--tls-ca-cert-file", files.ca)
    with redis_server(*options, scheme="rediss") as server:
        client = f"ssl_certfile={files.client_cert}&ssl_keyfile={files.client_key}"
        works(opened(f"{server.url}?ssl_ca_certs={files.ca}&{client}"))
        works(opened(f"{server.url}?ssl_cert_reqs=none&{client}"))
        wrong = [
            (f"{server.url}?{client}", "no encrypted connection to Redis.*CERTIFICATE_VERIFY_FAILED"),
            (f"rediss://localhost:{server.port}?ssl_ca_certs={files.ca}&{client}", "mismatch"),
            (f"{server.url}?ssl_ca_certs={files.ca}", "Redis"),
        ]
        for url, told in wrong:
            for read in (lambda ours: ours.read(ask(b"k")), lambda ours: read_async(ours, ask(b"k"))):
                with pytest.raises(StoreError, match=told):
                    read(opened(url))
        for read in (lambda ours: ours.read(ask(b"k")), lambda ours: read_async(ours, ask(b"k"))):
            with pytest.raises(StoreError, match="Redis"):
                read(opened(server.url.replace("rediss", "redis")))


def test_a_full_redis_says_so_and_still_answers(opened):
    with redis_server("--maxmemory", "3mb") as server:
        backend = opened(server.url)
        rows = [stored(b"%d" % i, 1, payload="x" * 1_000) for i in range(5_000)]
        with pytest.raises(
            StoreError, match=r"OOM command not allowed.*maxmemory.*writing all of them again"
        ):
            backend.write(V, rows)
        found = [row[0] for row in backend.read(ask(*(key for key, _ in rows)))[0]]
        there = [value for value in found if value is not None]
        assert there == [value for _, value in rows][: len(there)]
        assert 0 < len(there) < 5_000


def test_a_replica_is_read_and_refuses_writes(server, opened):
    server.flush()
    writer = opened(server.url)
    writer.write(V, [stored(b"k", 1)])
    with redis_server("--replicaof", f"127.0.0.1 {server.port}") as replica:
        ours = opened(replica.url)
        deadline = time.monotonic() + 20
        while ours.read(ask(b"k")) != [[[stored(b"k", 1)[1]]]]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(StoreError, match=r"READONLY.*name the primary"):
            ours.write(V, [stored(b"k", 2)])


def test_a_restart_fails_what_was_under_way_and_nothing_after_it(opened):
    """Connections of the pool that have died meanwhile are noticed before they are used."""
    with redis_server("--appendonly", "yes") as server:
        backend = opened(server.url)
        rows = [stored(b"%d" % i, 1) for i in range(3_000)]
        assert backend.write(V, rows) == 3_000
        server.kill()
        server.start()
        assert backend.write(V, rows) == 0
        assert backend.read(ask(b"7")) == [[[rows[7][1]]]]
        server.pause()
        failed = []
        writer = threading.Thread(target=refused_write, args=(backend, rows, failed))
        writer.start()
        time.sleep(0.1)
        server.kill()
        writer.join()
        server.start()
        assert "again is harmless" in str(failed[0])
        assert backend.write(V, rows) == 0


@pytest.mark.parametrize("password", ["", ":secret@"])
def test_a_connection_that_is_reset_or_closed_is_told(password, opened):
    """While an answer is awaited, and while logging in."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def end(reset):
            connection, _ = listening.accept()
            connection.recv(1_000)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        backend = opened(f"redis://{password}127.0.0.1:{listening.getsockname()[1]}")
        for reset in (True, False):
            for read in (backend.read, lambda asks: read_async(backend, asks)):
                ending = threading.Thread(target=end, args=(reset,))
                ending.start()
                with pytest.raises(
                    StoreError, match=r"127\.0\.0\.1:\d+: .*(connection|Connection)"
                ) as failed:
                    read(ask(b"k"))
                ending.join()
                assert "secret" not in str(failed.value)


def test_a_server_that_hangs_is_a_timeout(server, opened):
    backend = opened(server.url, timeout_s=0.2)
    backend.read(ask(b"k"))
    server.pause()
    try:
        for name, fails in every_way(backend).items():
            started = time.monotonic()
            with pytest.raises(StoreTimeout):
                pytest.fail(f"{name}: {fails()}")
            assert time.monotonic() - started < 2
        with pytest.raises(StoreTimeout, match=r"no answer within 0\.2 s.*A part of the rows may be written"):
            backend.write(V, [stored(b"k", 1)])
    finally:
        server.resume()
    assert backend.read(ask(b"other")) == [[[None]]]


@pytest.mark.parametrize("side_by_side", [False, True])
def test_scripts_that_redis_forgot_are_sent_again(backend, server, side_by_side):
    """Between two calls, and in the middle of a write."""
    pairs = [stored(struct.pack(">I", i), 1) for i in range(100_000)]
    keys, values = zip(*pairs, strict=True)
    rows = RowBlock(np.array(keys, "V4"), np.array(values, f"V{len(values[0])}")) if side_by_side else pairs
    stop = threading.Event()

    def forget():
        with server.client() as client:
            while not stop.is_set():
                client.script_flush()

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        assert backend.write(V, rows) == 100_000
        assert backend.write(V, rows) == 0
    finally:
        stop.set()
        forgetting.join()
    with server.client() as client:
        assert client.info("errorstats")["errorstat_NOSCRIPT"]["count"] > 0
    assert [row[0] for row in backend.read(ask(*keys))[0]] == list(values)


def test_a_definition_replaced_in_the_middle_of_a_write_ends_it(backend, opened, server):
    """Rows of the old one that came first were rows of their time; none comes after."""
    rows = [stored(struct.pack(">I", i), 1, schema=b"schema-1") for i in range(200_000)]
    failed = []
    writer = threading.Thread(target=refused_write, args=(backend, rows, failed))
    with server.client() as client:
        writer.start()
        while not client.exists("mlc:p"):
            time.sleep(0.001)
        opened(server.url).declare(V, b"schema-2")
        writer.join()
        stored_rows = client.dbsize() - 1
    assert 0 < stored_rows < 200_000
    message = str(failed[0])
    assert "definition that has been replaced" in message
    assert f"Expected schema {b'schema-2'.hex()}" in message
    assert "A part of the rows may be written" in message
