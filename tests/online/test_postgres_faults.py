"""What can go wrong with PostgreSQL: each fault is one clear error, in time, and the next call works again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest

from mlflow_core.errors import StoreError, StoreTimeout
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.postgres import PostgresBackend
from mlflow_core.testing.online_contract import stored
from tests.online.beside import in_thread, until_waiting

V = OnlineTable("v", ("carrier",))
K5 = stored(b"k", 5)
ASK = [Ask(V.keys, ("v",), [b"k"])]
HELD = "LOCK TABLE mlcore_online.rows IN ACCESS EXCLUSIVE MODE"


@pytest.fixture
def store(open_postgres):
    opened = open_postgres()
    opened.write(V, [K5])
    return opened


def test_a_restart_between_two_calls_is_not_noticed(postgres, store):
    for time_ in (6, 7):
        postgres.stop()
        postgres.start()
        if time_ == 6:
            assert store.write(V, [stored(b"k", 6)]) == 1
        assert store.read(ASK) == [[(stored(b"k", 6)[1],)]]


def test_a_server_that_is_down_is_one_clear_error_until_it_is_back(postgres, store):
    postgres.stop()
    try:
        for work in (lambda: store.read(ASK), lambda: store.write(V, [K5]), store.unfinished):
            with pytest.raises(
                StoreError, match=r"postgresql://mlcore@.*Check that the server runs"
            ) as caught:
                work()
            assert not isinstance(caught.value, StoreTimeout)
    finally:
        postgres.start()
    assert store.read(ASK) == [[(K5[1],)]]


def test_a_read_whose_connection_breaks_is_asked_again_and_a_write_is_not(postgres, postgres_admin, store):
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    for work, expected in ((lambda: store.read(ASK), [[(K5[1],)]]), (lambda: store.write(V, [K5]), None)):
        with psycopg.connect(postgres.url) as other:
            other.execute(HELD)
            thread, results = in_thread(work)
            until_waiting(postgres_admin)
            postgres_admin.execute(end)
            if expected is None:
                thread.join()
            else:
                until_waiting(postgres_admin)
        thread.join()
        if expected is None:
            assert "Writing the same rows again is harmless" in str(results[0])
        else:
            assert results == [expected]
    assert store.write(V, [K5]) == 0


def test_a_lock_that_somebody_keeps_is_a_timeout(postgres, open_postgres, store):
    hasty = open_postgres(timeout_s=0.2)
    assert hasty.read(ASK) == [[(K5[1],)]]
    with psycopg.connect(postgres.url) as other:
        other.execute(HELD)
        for work in (lambda: hasty.read(ASK), lambda: hasty.write(V, [stored(b"k", 6)])):
            with pytest.raises(StoreTimeout, match=r"did not answer in time.*statement timeout"):
                work()
    assert hasty.write(V, [stored(b"k", 6)]) == 1


def test_a_server_that_says_nothing_is_a_timeout(postgres_admin, open_postgres, store):
    hasty = open_postgres(timeout_s=0.2)
    hasty.read(ASK)
    silent = "SELECT pid FROM pg_stat_activity WHERE application_name = 'mlcore' ORDER BY backend_start DESC"
    (pid,) = postgres_admin.execute(silent).fetchone()
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(StoreTimeout, match=r"no answer within 1\.2 s"):
            hasty.read(ASK)
        assert time.monotonic() - begun < 10
        assert hasty.read(ASK) == [[(K5[1],)]], "on another connection"
    finally:
        os.kill(pid, signal.SIGCONT)


def test_more_work_than_connections_is_a_timeout(postgres, postgres_admin, open_postgres, store):
    narrow = open_postgres(timeout_s=2.0, connections=1)
    narrow.read(ASK)
    with psycopg.connect(postgres.url) as other:
        other.execute(HELD)
        threads = [in_thread(narrow.read, ASK) for _ in range(2)]
        for thread, _ in threads:
            thread.join()
    reasons = sorted(str(results[0]).partition(": ")[2] for _, results in threads)
    assert all(isinstance(results[0], StoreTimeout) for _, results in threads)
    assert any("all 1 connections are busy" in reason for reason in reasons) or len(set(reasons)) == 1
    assert narrow.read(ASK) == [[(K5[1],)]]


def test_a_wrong_password_or_database_is_named_and_no_password_is_shown(
    postgres, postgres_admin, open_postgres
):
    postgres_admin.execute("DROP ROLE IF EXISTS guarded")
    postgres_admin.execute("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'right-one'")
    right = postgres.guarded_url.format(password="right-one")
    assert open_postgres(url=right).read(ASK) == [[(None,)]]
    wrong = postgres.guarded_url.format(password="wrong-one")
    lost = right.replace("/postgres?", "/nowhere?")
    port = "postgresql://mlcore:right-one@127.0.0.1:1/postgres?password=wrong-one"
    for url, reason in (
        (wrong, "password authentication failed.*Check user and password"),
        (lost, 'database "nowhere" does not exist.*Make the database'),
        (port, "refused.*Check that the server runs"),
    ):
        store = open_postgres(url=url)
        with pytest.raises(StoreError, match=reason) as caught:
            store.read(ASK)
        told = f"{caught.value} {caught.value.__cause__} {store!r}"
        assert "right-one" not in told, told
        assert "wrong-one" not in told, told


@pytest.mark.parametrize(
    "url", ["", "no url with secret-word", "postgresql://u:secret-word@h:port/d?x=y", "http://h"]
)
def test_what_is_no_url_is_refused_without_being_shown(url):
    with pytest.raises(StoreError, match="URL of the PostgreSQL server cannot be read") as caught:
        PostgresBackend(url, "p")
    assert "secret-word" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


def test_a_schema_name_that_needs_quotes_is_refused(postgres):
    with pytest.raises(StoreError, match="cannot be the schema"):
        PostgresBackend(postgres.url, "p", schema='x"; DROP')


def test_a_replica_can_be_read_and_says_why_it_cannot_be_written(postgres_admin, open_postgres, store):
    postgres_admin.execute("ALTER ROLE mlcore SET default_transaction_read_only = on")
    try:
        replica = open_postgres()
        assert replica.read(ASK) == [[(K5[1],)]]
        with pytest.raises(StoreError, match=r"read-only transaction.*name the primary"):
            replica.write(V, [stored(b"k", 6)])
        with pytest.raises(StoreError, match="read-only transaction"):
            open_postgres(schema="elsewhere").read(ASK)
    finally:
        postgres_admin.execute("ALTER ROLE mlcore RESET default_transaction_read_only")


def test_a_full_disk_changes_nothing_and_says_so(postgres_admin, store):
    postgres_admin.execute("""
        CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON mlcore_online.rows FOR EACH ROW
        WHEN (new.key = 'z') EXECUTE FUNCTION full_disk()""")
    with pytest.raises(StoreError, match=r"No space left on device.*Free some space"):
        store.write(V, [stored(b"k", 6), stored(b"z", 6)])
    assert store.read(ASK) == [[(K5[1],)]]


def test_a_key_that_no_index_takes_changes_nothing_and_says_so(store):
    with pytest.raises(StoreError, match=r"index row.*A key may have some 2,600 bytes"):
        store.write(V, [stored(b"k", 6), stored(os.urandom(5_000), 6)])
    assert store.read(ASK) == [[(K5[1],)]]


def test_tables_of_another_layout_or_of_something_else_are_refused(postgres_admin, open_postgres, store):
    for number, hint in ((2, "Upgrade this process"), (0, "materialise again")):
        postgres_admin.execute("UPDATE mlcore_online.layout SET number = %s", (number,))
        with pytest.raises(StoreError, match=f"has layout {number}, this version knows 1.*{hint}"):
            open_postgres().read(ASK)
    postgres_admin.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.invoices ()")
    with pytest.raises(StoreError, match=r'is of something else .it has a table "invoices"'):
        open_postgres(schema="elsewhere").read(ASK)


def test_an_empty_schema_is_filled_by_who_may_not_make_one(postgres, postgres_admin, open_postgres):
    postgres_admin.execute("""DROP ROLE IF EXISTS tenant; CREATE ROLE tenant LOGIN;
        CREATE SCHEMA elsewhere AUTHORIZATION tenant""")
    url = postgres.url.replace("mlcore@", "tenant@")
    assert open_postgres(url=url, schema="elsewhere").write(V, [K5]) == 1
    with pytest.raises(StoreError, match=r"permission denied for database.*Grant the user"):
        open_postgres(url=url).read(ASK)


def test_a_schema_that_is_removed_under_a_store_is_not_made_again_silently(postgres_admin, store):
    postgres_admin.execute("DROP SCHEMA mlcore_online CASCADE")
    with pytest.raises(StoreError, match="The schema has been removed"):
        store.read(ASK)
    with pytest.raises(StoreError, match="The schema has been removed"):
        store.write(V, [K5])


def test_a_name_that_postgresql_cannot_hold_is_one_clear_error(store):
    with pytest.raises(StoreError, match="no NUL character"):
        store.write(OnlineTable("a\0b", ()), [K5])


def test_without_the_library_the_extra_is_named(repository):
    script = "import sys; sys.modules['psycopg'] = None; import mlflow_core.online.postgres"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=False
    )
    assert 'pip install "mlflow-core[postgres]"' in done.stderr.splitlines()[-1]
