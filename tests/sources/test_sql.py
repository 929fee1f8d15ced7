"""SQL sources on a real SQLite database: types, order, queries, secrets; and everything that can be wrong."""

from __future__ import annotations

import datetime as dt
import pickle
import sqlite3
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from mlflow_core.errors import ConfigError, SourceError
from mlflow_core.sources import parts, read_schema, read_table, snapshot
from mlflow_core.spec import SqlSource

DAY = dt.datetime(2013, 1, 1, 12, 0, 0, 250)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/db.sqlite", poolclass=sa.NullPool)
    metadata = sa.MetaData()
    flights = sa.Table(
        "flights",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime),
        sa.Column("carrier", sa.String),
        sa.Column("delay", sa.Float),
        sa.Column("fare", sa.Numeric(8, 2)),
        sa.Column("cancelled", sa.Boolean),
        sa.Column("day", sa.Date),
        sa.Column("raw", sa.LargeBinary),
    )
    sa.Table("no_rows", metadata, sa.Column("at", sa.DateTime))
    metadata.create_all(engine)
    row = {
        "carrier": "UA",
        "delay": 1.5,
        "fare": Decimal("9.99"),
        "cancelled": False,
        "day": DAY.date(),
        "raw": b"x",
    }
    with engine.begin() as connection:
        connection.execute(
            flights.insert(),
            [
                {"id": 3, "at": DAY + dt.timedelta(hours=1), **row},
                {"id": 2, "at": DAY, **row, "delay": None, "carrier": None},
                {"id": 1, "at": DAY, **row},
            ],
        )
    return tmp_path


def table(name: str = "flights", **fields: object) -> SqlSource:
    return SqlSource("flights", url="sqlite:///db.sqlite", table=name, event_time="at", **fields)


def query(text: str, **fields: object) -> SqlSource:
    return SqlSource("flights", url="sqlite:///db.sqlite", query=text, event_time="at", **fields)


def test_a_table_has_the_types_of_the_database_and_comes_in_time_then_key_order(base: Path) -> None:
    made = read_table(table(), str(base))
    time = pa.timestamp("us", tz="UTC")
    assert dict(zip(made.schema.names, made.schema.types, strict=True)) == {
        "id": pa.int64(),
        "at": time,
        "carrier": pa.string(),
        "delay": pa.float64(),
        "fare": pa.float64(),
        "cancelled": pa.bool_(),
        "day": time,
        "raw": pa.binary(),
    }
    assert made.schema == read_schema(table(), str(base))
    assert made.column("id").to_pylist() == [1, 2, 3]
    assert made.column("at").to_pylist()[0] == DAY.replace(tzinfo=dt.UTC)
    assert made.column("fare").to_pylist() == [9.99] * 3
    assert made.column("delay").to_pylist() == [1.5, None, 1.5]


def test_columns_are_renamed_and_chosen(base: Path) -> None:
    made = read_table(table(rename={"carrier": "airline"}), str(base), ["airline", "id"])
    assert made.to_pydict() == {"airline": ["UA", None, "UA"], "id": [1, 2, 3]}


def test_a_query_keeps_its_own_order_and_reads_texts_as_times(base: Path) -> None:
    made = read_table(query("SELECT at, id * 2 AS twice FROM flights ORDER BY id DESC;"), str(base))
    assert made.column("twice").to_pylist() == [6, 4, 2]
    assert made.column("at").to_pylist()[2] == DAY.replace(tzinfo=dt.UTC)


def test_the_one_part_travels_by_pickle_without_the_password(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_FILE", "db.sqlite")
    source = SqlSource("flights", url="sqlite:///${env:DB_FILE}", table="flights", event_time="at")
    (part,) = parts(source, str(base))
    assert part.rows == 3
    assert b"db.sqlite" not in pickle.dumps(part)
    assert pickle.loads(pickle.dumps(part)).read(["id"]).column("id").to_pylist() == [1, 2, 3]


def test_a_secret_that_is_not_set_is_named(base: Path) -> None:
    source = SqlSource("flights", url="sqlite:///${env:NO_SUCH_FILE}", table="flights", event_time="at")
    with pytest.raises(ConfigError, match="NO_SUCH_FILE is not set"):
        read_schema(source, str(base))


def test_the_snapshot_changes_when_a_row_comes(base: Path) -> None:
    before = snapshot(table(), str(base)), snapshot(query("SELECT * FROM flights"), str(base))
    assert before == (snapshot(table(), str(base)), snapshot(query("SELECT * FROM flights"), str(base)))
    with sqlite3.connect(base / "db.sqlite") as connection:
        connection.execute("INSERT INTO flights (id, at) VALUES (9, '2014-01-01 00:00:00')")
    connection.close()
    assert snapshot(table(), str(base)) != before[0]
    assert snapshot(query("SELECT * FROM flights"), str(base)) != before[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (table("flihgts"), 'there is no table "flihgts". Did you mean "flights"?'),
        (table("no_rows"), "is empty: 1 part without a row"),
        (query("SELEC 1"), "the database cannot be read: near"),
        (query("SELECT id, nope FROM flights"), "no such column: nope"),
        (table(rename={"carrierx": "c"}), 'Did you mean "carrier"?'),
        (
            SqlSource("f", url="sqlite:///no.sqlite", table="t", event_time="at"),
            'no SQLite database "no.sqlite"',
        ),
        (SqlSource("f", url="nosuch://x", table="t", event_time="at"), "the database cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(base: Path, source: SqlSource, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_table(source, str(base))
    assert message in str(caught.value)
    assert "SqlSource" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_is_no_time_or_number_names_its_column(base: Path) -> None:
    with pytest.raises(SourceError, match='column "at" has a value that is no timestamp'):
        read_table(query("SELECT 'soon' AS at FROM flights"), str(base))
    with pytest.raises(SourceError, match='column "x" has no one type'):
        read_table(query("SELECT at, CASE id WHEN 1 THEN 'a' ELSE 2 END AS x FROM flights"), str(base))


def test_a_misspelt_sqlite_path_makes_no_database(base: Path) -> None:
    with pytest.raises(SourceError):
        read_schema(SqlSource("f", url="sqlite:///no.sqlite", table="t", event_time="at"), str(base))
    assert not (base / "no.sqlite").exists()
