"""One suite for every kind of source: the same rows in, the same schema, order and values out.

Each kind writes the events it is given and says how to declare them; the tests know nothing else of it.
"""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from mlflow_core.errors import SourceError
from mlflow_core.sources import adbc, open_source, parts, read_schema, read_table, snapshot, sql
from mlflow_core.spec import DeltaSource, IcebergSource, ParquetSource, Source, SqlSource, source_from_json
from tests.servers.postgres import server

TIME = pa.timestamp("us", "UTC")
HOUR = 3_600_000_000
FIRST = int(dt.datetime(2013, 1, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("at", TIME),
        ("made", TIME),
        ("carrier", pa.string()),
        ("delay", pa.float64()),
        ("late", pa.bool_()),
    ]
)


def events(start: int = 0, n: int = 60) -> pa.Table:
    """Events an hour apart, in time order, with ties, nulls, infinities and letters beyond ASCII."""
    ids = list(range(start, start + n))
    return pa.table(
        {
            "id": ids,
            "at": pa.array([FIRST + (i // 2) * HOUR + (i // 2) % 7 for i in ids], pa.int64()).cast(TIME),
            "made": pa.array([FIRST + i * HOUR for i in ids], pa.int64()).cast(TIME),
            "carrier": [None if i % 5 == 3 else ("UA", "Größe", "", "日本")[i % 4] for i in ids],
            "delay": [None if i % 7 == 2 else float("inf") if i % 11 == 5 else i / 3 for i in ids],
            "late": [None if i % 6 == 1 else i % 2 == 0 for i in ids],
        },
        schema=SCHEMA,
    )


@dataclass(frozen=True)
class Kind:
    """How one kind of source is filled and declared.

    Attributes:
        base: Folder of the feature repository.
        add: Adds events after those that are there.
        declare: Makes the declaration, with more fields if given.
    """

    base: str
    add: Callable[[pa.Table], None]
    declare: Callable[..., Source]


def parquet_file(tmp_path: Path) -> Kind:
    def add(table: pa.Table) -> None:
        path = tmp_path / "x.parquet"
        held = [pq.read_table(path)] if path.exists() else []
        pq.write_table(pa.concat_tables([*held, table]), path, row_group_size=7)

    return Kind(str(tmp_path), add, lambda **more: declared(ParquetSource, path="x.parquet", **more))


def parquet_folder(tmp_path: Path, path: str = "d") -> Kind:
    def add(table: pa.Table) -> None:
        (tmp_path / "d").mkdir(exist_ok=True)
        half = table.num_rows // 2
        for piece in (table.slice(0, half), table.slice(half)):
            n = len(list((tmp_path / "d").iterdir()))
            pq.write_table(piece, tmp_path / f"d/part-{n:03}.parquet", row_group_size=7)

    return Kind(str(tmp_path), add, lambda **more: declared(ParquetSource, path=path, **more))


def parquet_glob(tmp_path: Path) -> Kind:
    return parquet_folder(tmp_path, "d/part-*.parquet")


def parquet_hive(tmp_path: Path) -> Kind:
    """Whole numbers stand in the folders' names, so they are the last column there."""

    def add(table: pa.Table) -> None:
        for place in range(table.num_rows):
            piece = table.slice(place, 1)
            folder = tmp_path / f"d/hour={piece['id'][0].as_py() // 10:03}x/id={piece['id'][0].as_py()}"
            folder.mkdir(parents=True)
            pq.write_table(piece.drop_columns("id"), folder / "x.parquet")

    return Kind(str(tmp_path), add, lambda **more: declared(ParquetSource, path="d", **more))


def parquet_memory(tmp_path: Path) -> Kind:
    fs = fsspec.filesystem("memory")

    def add(table: pa.Table) -> None:
        n = len(fs.find(f"/{tmp_path.name}"))
        with fs.open(f"/{tmp_path.name}/part-{n:03}.parquet", "wb") as handle:
            pq.write_table(table, handle, row_group_size=7)

    url = f"memory://{tmp_path.name}"
    return Kind("/nowhere", add, lambda **more: declared(ParquetSource, path=url, **more))


def sql_table(url: str, base: Path, **options: Any) -> Kind:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    metadata = sa.MetaData()
    table = sa.Table(
        "flights",
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime),
        sa.Column("made", sa.DateTime(timezone=True)),
        sa.Column("carrier", sa.String),
        sa.Column("delay", sa.Double),
        sa.Column("late", sa.Boolean),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)

    def add(rows: pa.Table) -> None:
        naive = rows.set_column(1, "at", rows["at"].cast(pa.timestamp("us")))
        with engine.begin() as connection:
            connection.execute(table.insert(), naive.to_pylist())

    return Kind(str(base), add, lambda **more: declared(SqlSource, **{"url": url, **options, **more}))


def sqlite(tmp_path: Path) -> Kind:
    return sql_table(f"sqlite:///{tmp_path}/db.sqlite", tmp_path, table="flights")


def sqlite_query(tmp_path: Path) -> Kind:
    text = "SELECT id, at, made, carrier, delay, late FROM flights"
    return sql_table(f"sqlite:///{tmp_path}/db.sqlite", tmp_path, query=text, split_by="id")


def delta(tmp_path: Path) -> Kind:
    import deltalake

    def add(table: pa.Table) -> None:
        deltalake.write_deltalake(tmp_path / "t", table, mode="append", target_file_size=10**9)

    return Kind(str(tmp_path), add, lambda **more: declared(DeltaSource, path="t", **more))


def iceberg(tmp_path: Path) -> Kind:
    from pyiceberg.catalog import load_catalog

    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/c.sqlite", "warehouse": f"file://{tmp_path}"}
    catalog = load_catalog("test", **properties)
    catalog.create_namespace("db")
    table = catalog.create_table("db.flights", schema=SCHEMA)

    def add(rows: pa.Table) -> None:
        table.append(rows)

    return Kind(
        str(tmp_path),
        add,
        lambda **more: declared(
            IcebergSource,
            catalog="test",
            table="db.flights",
            properties={**properties, "uri": "sqlite:///c.sqlite"},
            **more,
        ),
    )


def declared(kind: type[Any], **fields: Any) -> Source:
    return kind("flights", **{"event_time": "at", "created": "made", **fields})


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with server() as url:
        yield url


KINDS = [parquet_file, parquet_folder, parquet_glob, parquet_memory, sqlite, delta, iceberg]
NAMES = [kind.__name__ for kind in KINDS]
SLOW = [f"{name}_without_adbc" for name in ("sqlite", "postgres")]


@pytest.fixture(params=[*NAMES, "postgres", *SLOW])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    monkeypatch.setattr(sql, "PART_ROWS", 25)
    name = request.param
    if name.endswith("_without_adbc"):
        monkeypatch.setattr(adbc, "_DRIVERS", {})
        name = name.removesuffix("_without_adbc")
    if name == "postgres":
        return sql_table(request.getfixturevalue("postgres_url"), tmp_path, table="flights")
    return KINDS[NAMES.index(name)](tmp_path)


@pytest.fixture
def filled(kind: Kind) -> Kind:
    kind.add(events())
    return kind


def test_the_same_rows_come_out_with_the_same_schema_values_and_order(filled: Kind) -> None:
    source = filled.declare()
    assert read_schema(source, filled.base).equals(SCHEMA)
    assert read_table(source, filled.base).equals(events())
    assert read_table(source, filled.base).validate(full=True) is None


def test_columns_come_in_the_order_asked_for_each_once(filled: Kind) -> None:
    made = read_table(filled.declare(), filled.base, ["delay", "id", "delay"])
    assert made.equals(events().select(["delay", "id"]))


def test_columns_are_called_as_the_declaration_says(filled: Kind) -> None:
    source = filled.declare(rename={"at": "departure", "delay": "minutes"}, event_time="departure")
    names = ["id", "departure", "made", "carrier", "minutes", "late"]
    assert read_table(source, filled.base).equals(events().rename_columns(names))
    with pytest.raises(SourceError, match=r'no column "delya".*Did you mean "delay"'):
        read_schema(filled.declare(rename={"delya": "x"}), filled.base)
    with pytest.raises(SourceError, match=r'no column "dealy".*Did you mean "delay"'):
        read_table(filled.declare(), filled.base, ["dealy"])


def test_parts_put_together_are_the_source_and_travel_by_pickle(filled: Kind) -> None:
    found = parts(filled.declare(), filled.base)
    copies = pickle.loads(pickle.dumps(found))
    assert pa.concat_tables([part.read() for part in copies]).equals(events())
    assert sum(part.rows for part in found) == events().num_rows
    assert all(part.bytes > 0 for part in found)
    assert [part.fingerprint for part in copies] == [part.fingerprint for part in found]
    assert len({part.fingerprint for part in found}) == len(found) == len({part.name for part in found})


def test_a_pruned_read_has_every_row_between_and_no_row_that_is_not_there(filled: Kind) -> None:
    source = filled.declare()
    everything = open_source(source, filled.base)
    whole = [part.fingerprint for part in everything.parts()]
    for between in [(10, 20), (None, 3), (25, None), (29, 29), (50, 60), (None, None)]:
        least, greatest = (None if end is None else FIRST + end * HOUR for end in between)
        read = everything.read(between=(least, greatest))
        inside = pc.and_(
            pc.greater_equal(events()["at"], pa.scalar(least or 0, pa.int64()).cast(TIME)),
            pc.less_equal(events()["at"], pa.scalar(greatest or 2**60, pa.int64()).cast(TIME)),
        )
        wanted = events().filter(inside)
        assert read.filter(pc.is_in(read["id"], wanted["id"].combine_chunks())).equals(wanted), between
        assert set(read["id"].to_pylist()) <= set(events()["id"].to_pylist())
        kept = [part.fingerprint for part in everything.parts((least, greatest))]
        assert kept == [one for one in whole if one in kept]


def test_the_functions_prune_as_the_listing_does(filled: Kind) -> None:
    source, between = filled.declare(), (FIRST + 10 * HOUR, FIRST + 12 * HOUR)
    listing = open_source(source, filled.base)
    assert read_table(source, filled.base, ["id"], between=between).equals(listing.read(["id"], between))
    assert [part.name for part in parts(source, filled.base, between=between)] == [
        part.name for part in listing.parts(between)
    ]


def test_a_span_holds_all_times_of_its_part_and_is_told_except_where_times_are_texts(filled: Kind) -> None:
    source = filled.declare()
    for part in parts(source, filled.base):
        times = part.read(["at"])["at"].cast(pa.int64())
        told = isinstance(source, SqlSource) and source.url.startswith("sqlite")
        assert part.span == (None if told else (pc.min(times).as_py(), pc.max(times).as_py()))


def test_fingerprints_stay_while_the_data_do_and_change_when_rows_come(filled: Kind) -> None:
    source = filled.declare()
    before = snapshot(source, filled.base)
    assert snapshot(source, filled.base) == before
    assert open_source(source, filled.base).fingerprint == before
    first = [part.fingerprint for part in parts(source, filled.base)]
    read_table(source, filled.base)
    assert [part.fingerprint for part in parts(source, filled.base)] == first
    filled.add(events(start=60, n=40))
    assert snapshot(source, filled.base) != before
    later = parts(source, filled.base)
    assert [part.fingerprint for part in later] != first
    assert sorted(read_table(source, filled.base)["id"].to_pylist()) == list(range(100))


def test_what_does_not_change_the_rows_changes_no_fingerprint(filled: Kind) -> None:
    first = [part.fingerprint for part in parts(filled.declare(), filled.base)]
    other = filled.declare(description="other words", owner="someone", tags={"team": "ops"})
    assert [part.fingerprint for part in parts(other, filled.base)] == first


def test_hive_partitions_give_the_same_rows_with_the_partition_last(tmp_path: Path) -> None:
    kind = parquet_hive(tmp_path)
    kind.add(events(n=20))
    names = [*SCHEMA.names[1:], "id"]
    read = read_table(kind.declare(), kind.base, names)
    assert read.take(pc.sort_indices(read["id"])).equals(events(n=20).select(names))


def test_a_query_that_is_split_gives_its_rows_in_the_order_of_a_table(tmp_path: Path) -> None:
    kind = sqlite_query(tmp_path)
    kind.add(events())
    assert read_table(kind.declare(), kind.base, ["id", "delay"]).equals(events().select(["id", "delay"]))


def test_the_declaration_comes_back_from_its_json(filled: Kind) -> None:
    source = filled.declare()
    again = source_from_json(source.canonical_json())
    assert again == source
    assert read_table(again, filled.base).equals(events())
