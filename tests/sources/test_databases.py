"""SQL sources in parts: how they are cut, what is noticed, and that the fast drivers change no answer."""

from __future__ import annotations

import datetime as dt
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from mlflow_core.errors import SourceError
from mlflow_core.sources import adbc, parts, read_schema, read_table, snapshot, sql
from mlflow_core.spec import SqlSource
from tests.servers.postgres import server

NEW_YEAR = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file with 100 rows, an hour apart, some without a time."""
    monkeypatch.setattr(sql, "PART_ROWS", 10)
    run(tmp_path, "CREATE TABLE f (id INTEGER PRIMARY KEY, at TIMESTAMP, day DATE, word TEXT)")
    for n in range(100):
        at = NEW_YEAR + dt.timedelta(hours=n)
        text = None if n % 25 == 7 else at.replace(tzinfo=None).isoformat(" ")
        run(tmp_path, "INSERT INTO f VALUES (?, ?, ?, ?)", (n, text, at.date().isoformat(), f"w{n}"))
    return tmp_path


def run(base: Path, statement: str, values: tuple[Any, ...] = ()) -> None:
    connection = sqlite3.connect(base / "db.sqlite")
    with connection:
        connection.execute(statement, values)
    connection.close()


def source(**fields: Any) -> SqlSource:
    fields = {"table": "f"} | fields if "query" not in fields else fields
    return SqlSource("flights", **{"url": "sqlite:///db.sqlite", "event_time": "at", **fields})


@pytest.mark.parametrize("split_by", [None, "id", "day"])
def test_parts_are_ranges_that_hold_every_row_once_those_without_a_value_last(
    base: Path, split_by: str | None
) -> None:
    found = parts(source(split_by=split_by), str(base))
    assert len(found) >= 4
    ids = [part.read(["id"]).column("id").to_pylist() for part in found]
    assert sorted(number for part in ids for number in part) == list(range(100))
    assert all(part.rows == len(read) > 0 for part, read in zip(found, ids, strict=True))
    if split_by is None:
        assert ids[-1] == [7, 32, 57, 82]
        assert [number for part in ids[:-1] for number in part] == [n for n in range(100) if n % 25 != 7]


def test_rows_that_come_later_leave_the_ranges_of_the_others(base: Path) -> None:
    before = [part.name for part in parts(source(split_by="id"), str(base))]
    for n in range(100, 130):
        run(base, "INSERT INTO f VALUES (?, '2013-02-01 00:00:00', '2013-02-01', 'x')", (n,))
    after = [part.name for part in parts(source(split_by="id"), str(base))]
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_one_row_far_away_does_not_put_all_others_into_one_part(base: Path) -> None:
    run(base, "INSERT INTO f VALUES (200, '9999-12-31 23:59:59.999999', '9999-12-31', 'late')")
    found = parts(source(), str(base))
    assert max(part.rows for part in found) <= 20
    ids = read_table(source(), str(base), ["id"]).column("id").to_pylist()
    assert sorted(ids) == [*range(100), 200]


def test_times_that_are_texts_of_several_forms_lose_no_row(base: Path) -> None:
    run(base, "UPDATE f SET at = replace(at, ' ', 'T') WHERE id % 3 = 0")
    run(base, "INSERT INTO f VALUES (300, '2012-12-31T23:00:00.5', '2012-12-31', 'first')")
    ids = read_table(source(), str(base), ["id"]).column("id").to_pylist()
    assert sorted(ids) == [*range(100), 300]


def test_rows_of_one_value_stay_in_one_part(base: Path) -> None:
    run(base, "UPDATE f SET at = '2013-01-01 00:00:00'")
    (part,) = parts(source(), str(base))
    assert part.rows == 100


def test_a_column_without_ranges_is_refused_if_declared_and_one_part_if_not(base: Path) -> None:
    with pytest.raises(SourceError, match='column "word" has str values, which have no ranges'):
        parts(source(split_by="word"), str(base))
    with pytest.raises(SourceError, match=r'there is no column "wordy".*Did you mean "word"'):
        parts(source(split_by="wordy"), str(base))
    (part,) = parts(source(event_time="word"), str(base))
    assert part.rows == 100


def test_a_query_is_one_part_in_its_own_order_unless_it_is_split(base: Path) -> None:
    text = "SELECT id, at FROM f WHERE id < 50 ORDER BY id DESC;"
    (part,) = parts(source(query=text), str(base))
    assert part.read(["id"]).column("id").to_pylist() == list(range(49, -1, -1))
    assert len(parts(source(query=text, split_by="id"), str(base))) > 3


@pytest.mark.parametrize("rows", [{"table": "f"}, {"query": "SELECT * FROM f"}], ids=["table", "query"])
def test_what_the_database_knows_of_columns_is_asked_once_for_all_parts(
    base: Path, rows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pickle.loads(pickle.dumps(parts(source(split_by="id", **rows), str(base))))
    assert len(found) > 3
    monkeypatch.setattr(sql, "rows_of", lambda *_: pytest.fail("asked again"))
    assert sorted(n for part in found for n in part.read(["id"])["id"].to_pylist()) == list(range(100))


def test_a_column_that_went_since_it_was_listed_is_named(base: Path) -> None:
    first, *_ = parts(source(), str(base))
    run(base, "ALTER TABLE f DROP COLUMN word")
    with pytest.raises(SourceError, match=r"the database cannot be read: no such column: .*word"):
        first.read(["id", "word"])


def test_a_value_changed_in_place_is_noticed_between_listing_and_reading(base: Path) -> None:
    before, (first, *_) = snapshot(source(), str(base)), parts(source(), str(base))
    run(base, "UPDATE f SET word = 'other' WHERE id = 1")
    assert snapshot(source(), str(base)) != before
    assert parts(source(), str(base))[0].fingerprint != first.fingerprint
    with pytest.raises(SourceError, match="has changed since it was listed"):
        first.read()


def test_a_database_with_a_write_ahead_log_is_read_and_left_as_it_is(base: Path) -> None:
    writer = sqlite3.connect(base / "db.sqlite")
    writer.execute("PRAGMA journal_mode=WAL")
    with writer:
        writer.execute("UPDATE f SET word = 'logged' WHERE id = 0")
    first = snapshot(source(), str(base))
    assert read_table(source(), str(base), ["word"]).column("word")[0].as_py() == "logged"
    assert snapshot(source(), str(base)) == first
    with writer:
        writer.execute("UPDATE f SET word = 'again' WHERE id = 0")
    assert snapshot(source(), str(base)) != first
    writer.close()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, at, NULL AS word FROM f",
        "SELECT id, at, CASE WHEN id > 50 THEN word END AS word FROM f ORDER BY id",
        "SELECT id, at, CAST(id AS REAL) / 3 AS third, id % 2 = 0 AS even FROM f ORDER BY id",
        "SELECT id, at, x'00ff' AS raw, '100%' AS percent, ':name' AS colon FROM f ORDER BY id",
    ],
)
def test_with_and_without_the_fast_driver_the_answer_is_the_same(
    base: Path, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    fast = read_table(source(query=query.replace(":name", r"\:name")), str(base))
    monkeypatch.setattr(adbc, "_DRIVERS", {})
    assert fast.equals(read_table(source(query=query.replace(":name", r"\:name")), str(base)))


def refuse_objects(*_: Any) -> None:
    raise AssertionError("rows came as Python objects")


def test_the_fast_driver_is_used_where_it_is_installed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "arrow_array", refuse_objects)
    assert read_table(source(), str(base)).num_rows == 100
    monkeypatch.setattr(adbc, "_DRIVERS", {})
    with pytest.raises(AssertionError, match="came as Python objects"):
        read_table(source(), str(base))


def test_what_the_fast_driver_cannot_be_sure_of_is_refused_as_without_it(base: Path) -> None:
    with pytest.raises(SourceError, match='column "at" has a value that is no timestamp'):
        read_table(source(query="SELECT id, id AS at FROM f"), str(base))


@pytest.fixture(scope="module")
def postgres() -> Iterator[sa.Engine]:
    with server() as url:
        yield sa.create_engine(url, poolclass=sa.NullPool)


def written(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def of_postgres(engine: sa.Engine, **fields: Any) -> SqlSource:
    return source(url=engine.url.render_as_string(), **fields)


def test_postgresqls_types_are_the_same_through_both_drivers(
    postgres: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(
        postgres,
        "DROP TABLE IF EXISTS f",
        """CREATE TABLE f (id smallint PRIMARY KEY, at timestamptz, n timestamp, d date, s text, x numeric(8, 2),
           r real, f double precision, b bool, raw bytea, arr int[], c char(3))""",
        r"""INSERT INTO f VALUES (1, '2013-01-01 12:00:00.00025+02', '2013-01-01', '2013-01-02', 'ä%', 9.99, 1.1, 0.1,
           true, '\xff', '{1,2}', 'EWR'), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
           (3, '9999-12-31', '9999-12-31', '9999-12-31', '', -1e5, 'NaN', 'Infinity', false, '', '{}', '')""",
    )
    flights = of_postgres(postgres)
    with monkeypatch.context() as patched:
        patched.setattr(sql, "arrow_array", refuse_objects)
        fast = read_table(flights, str(tmp_path))
    assert fast.schema == read_schema(flights, str(tmp_path))
    monkeypatch.setattr(adbc, "_DRIVERS", {})
    slow = read_table(flights, str(tmp_path))
    assert str(fast.to_pylist()) == str(slow.to_pylist())
    assert fast.schema.field("arr").type == pa.list_(pa.int64())
    assert fast["id"].to_pylist() == [1, 3, 2]
    assert fast["r"].to_pylist()[0] == 1.1


def test_postgresql_tells_of_changes_in_tables_views_and_queries(postgres: sa.Engine, tmp_path: Path) -> None:
    written(
        postgres,
        "DROP VIEW IF EXISTS v",
        "DROP TABLE IF EXISTS g",
        "CREATE TABLE g AS SELECT n AS id, timestamptz '2013-01-01' + n * interval '1 hour' AS at, 'a' AS s "
        "FROM generate_series(1, 20) AS n",
        "CREATE VIEW v AS SELECT * FROM g",
    )
    sources = [
        of_postgres(postgres, table="g"),
        of_postgres(postgres, table="public.g"),
        of_postgres(postgres, table="v"),
        of_postgres(postgres, query="SELECT * FROM g"),
    ]
    before = [snapshot(one, str(tmp_path)) for one in sources]
    assert [snapshot(one, str(tmp_path)) for one in sources] == before
    listed = [parts(one, str(tmp_path))[0] for one in sources]
    assert all(one.span is not None for one in listed)
    written(postgres, "UPDATE g SET s = 'b' WHERE id = 7")
    assert all(one != snapshot(s, str(tmp_path)) for one, s in zip(before, sources, strict=True))
    for one in listed:
        with pytest.raises(SourceError, match="has changed since it was listed"):
            one.read()


def test_only_the_part_that_changed_has_another_fingerprint(
    postgres: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "PART_ROWS", 50)
    written(
        postgres,
        "DROP TABLE IF EXISTS h",
        "CREATE TABLE h AS SELECT n AS id, timestamptz '2013-01-01' + n * interval '1 hour' AS at "
        "FROM generate_series(1, 200) AS n",
    )
    flights = of_postgres(postgres, table="h")
    before = [part.fingerprint for part in parts(flights, str(tmp_path))]
    written(postgres, "UPDATE h SET id = -1 WHERE id = 1")
    after = [part.fingerprint for part in parts(flights, str(tmp_path))]
    assert len(before) == len(after) >= 4
    assert [a == b for a, b in zip(after, before, strict=True)] == [False] + [True] * (len(before) - 1)
