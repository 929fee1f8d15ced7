"""Delta and Iceberg tables that have lived: changed columns, deleted rows, old versions; and what is refused."""

from __future__ import annotations

import base64
import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, LongType

from mlflow_core.errors import SourceError
from mlflow_core.sources import parts, read_schema, read_table, snapshot
from mlflow_core.sources.iceberg import refuse_deletes
from mlflow_core.spec import DeltaSource, IcebergSource

TIME = pa.timestamp("us", "UTC")
DAY = 86_400_000_000


def rows(first: int, n: int, **more: Any) -> pa.Table:
    times = pa.array([(first + i) * DAY for i in range(n)], pa.int64()).cast(TIME)
    numbers = pa.array(range(first, first + n), pa.int32())
    return pa.table({"at": times, "n": numbers, **more})


def in_order(source: DeltaSource | IcebergSource, base: Path, *names: str) -> list[tuple[Any, ...]]:
    """The rows' values, by ``n``: the names of the files, and so their order, are chance."""
    read = read_table(source, str(base), ["n", *names]).sort_by("n")
    return list(zip(*(column.to_pylist() for column in read.columns), strict=True))


def delta(**fields: Any) -> DeltaSource:
    return DeltaSource("flights", path="t", event_time="at", **fields)


def test_a_delta_table_is_read_as_its_newest_or_the_version_asked_for(tmp_path: Path) -> None:
    deltalake.write_deltalake(tmp_path / "t", rows(0, 3))
    first = snapshot(delta(), str(tmp_path))
    deltalake.DeltaTable(tmp_path / "t").delete("n = 1")
    assert in_order(delta(), tmp_path) == [(0,), (2,)]
    assert in_order(delta(version=0), tmp_path) == [(0,), (1,), (2,)]
    assert snapshot(delta(version=0), str(tmp_path)) == first != snapshot(delta(), str(tmp_path))
    with pytest.raises(SourceError, match='Delta table "t" at version 9 cannot be read'):
        read_schema(delta(version=9), str(tmp_path))


def test_a_delta_column_that_came_later_is_null_before_and_partitions_are_columns(tmp_path: Path) -> None:
    deltalake.write_deltalake(tmp_path / "t", rows(0, 2, c=["a b", None]), partition_by=["c"])
    deltalake.write_deltalake(
        tmp_path / "t", rows(2, 1, c=["x/é"], extra=[1.5]), mode="append", schema_mode="merge"
    )
    renaming = delta(rename={"c": "carrier"})
    assert in_order(renaming, tmp_path, "carrier", "extra") == [
        (0, "a b", None),
        (1, None, None),
        (2, "x/é", 1.5),
    ]


@pytest.mark.parametrize("kind", [pa.date32(), TIME, pa.int64(), pa.bool_()])
def test_delta_partitions_have_the_tables_types(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([None, 1], pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    deltalake.write_deltalake(tmp_path / "t", rows(0, 2, p=values), partition_by=["p"])
    inside = TIME if kind == pa.date32() else kind
    assert read_schema(delta(), str(tmp_path)).field("p").type == inside
    assert in_order(delta(), tmp_path, "p") == [(0, None), (1, values.cast(inside)[1].as_py())]


def test_a_delta_tables_files_outside_are_left_out(tmp_path: Path) -> None:
    for first in (0, 10, 20):
        deltalake.write_deltalake(tmp_path / "t", rows(first, 5), mode="append")
    kept = read_table(delta(), str(tmp_path), ["n"], between=(11 * DAY, 12 * DAY))
    assert kept.column("n").to_pylist() == [10, 11, 12, 13, 14]
    assert sorted(part.span or (0, 0) for part in parts(delta(), str(tmp_path)))[1] == (10 * DAY, 14 * DAY)


def edited(folder: Path, change: dict[str, Any]) -> None:
    """Rewrite the protocol and the configuration in the first entry of a log."""
    log = folder / "_delta_log/00000000000000000000.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            line["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": change["features"],
                "writerFeatures": change["features"],
            }
        if "metaData" in line:
            line["metaData"]["configuration"] = change.get("configuration", {})
            schema = json.loads(line["metaData"]["schemaString"])
            for number, field in enumerate(schema["fields"]):
                physical = {
                    "delta.columnMapping.id": number + 1,
                    "delta.columnMapping.physicalName": field["name"],
                }
                field["metadata"] = physical if "configuration" in change else {}
            line["metaData"]["schemaString"] = json.dumps(schema)
    log.write_text("\n".join(json.dumps(line) for line in lines))


def test_a_delta_table_that_hides_something_from_its_files_is_refused(tmp_path: Path) -> None:
    deltalake.write_deltalake(tmp_path / "t", rows(0, 3))
    edited(tmp_path / "t", {"features": ["deletionVectors"]})
    assert in_order(delta(), tmp_path) == [(0,), (1,), (2,)]  # allowed, but none is there
    mapping = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"}
    edited(tmp_path / "t", {"features": ["columnMapping"], "configuration": mapping})
    with pytest.raises(SourceError, match=r"under other names in its files \(delta.columnMapping.mode\)"):
        read_schema(delta(), str(tmp_path))


def deleted_beside(folder: Path, row: int) -> None:
    """Delete a row of a table of one file as other writers do, by a deletion vector in the log."""
    # Delta's protocol: a bitmap of 64-bit numbers, which is 32-bit ones of the Roaring format by their upper half.
    roaring = struct.pack("<IIHHIH", 12346, 1, 0, 0, 16, row)
    bitmap = struct.pack("<IQI", 1681511377, 1, 0) + roaring
    padded = bitmap + bytes(-len(bitmap) % 4)
    z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    python = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    text = base64.b85encode(padded).decode().translate(str.maketrans(python, z85))
    vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(bitmap), "cardinality": 1}
    log = folder / "_delta_log"
    lines = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    (added,) = (line["add"] for line in lines if "add" in line)
    removed = {"path": added["path"], "deletionTimestamp": 1, "dataChange": True}
    entries = [{"remove": removed}, {"add": {**added, "deletionVector": vector}}]
    (log / f"{1:020}.json").write_text("\n".join(json.dumps(entry) for entry in entries))


def test_a_delta_table_with_rows_deleted_beside_their_files_is_refused_and_read_before_that(
    tmp_path: Path,
) -> None:
    deltalake.write_deltalake(
        tmp_path / "t", rows(0, 3), configuration={"delta.enableDeletionVectors": "true"}
    )
    edited(tmp_path / "t", {"features": ["deletionVectors"]})
    deleted_beside(tmp_path / "t", 1)
    vectors = pa.table(deltalake.DeltaTable(tmp_path / "t").deletion_vectors())
    assert vectors["selection_vector"].to_pylist()[0][:2] == [True, False]
    with pytest.raises(SourceError, match=r"rows deleted beside their files.*REORG TABLE"):
        read_table(delta(), str(tmp_path))
    assert in_order(delta(version=0), tmp_path) == [(0,), (1,), (2,)]


def test_no_delta_table_and_no_library_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match='Delta table "t" cannot be read'):
        read_schema(delta(), str(tmp_path))
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(SourceError, match=r'needs the library deltalake.*"mlflow-core\[delta\]"'):
        read_schema(delta(), str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    with pytest.raises(SourceError, match=r'needs the library pyiceberg.*"mlflow-core\[iceberg\]"'):
        read_schema(iceberg(tmp_path), str(tmp_path))


def test_an_empty_delta_table_has_a_schema_but_cannot_be_read(tmp_path: Path) -> None:
    deltalake.DeltaTable.create(tmp_path / "t", schema=rows(0, 0).schema)
    assert read_schema(delta(), str(tmp_path)).names == ["at", "n"]
    with pytest.raises(SourceError, match="is empty: 0 parts without a row"):
        read_table(delta(), str(tmp_path))


def properties(base: Path) -> dict[str, str]:
    return {"type": "sql", "uri": f"sqlite:///{base}/c.sqlite", "warehouse": f"file://{base}"}


def iceberg(base: Path, **fields: Any) -> IcebergSource:
    given = {"table": "db.flights", "catalog": "test", "properties": properties(base)} | fields
    return IcebergSource("flights", event_time="at", **given)


def created(base: Path, table: pa.Table, **options: Any) -> Any:
    catalog = load_catalog("test", **properties(base))
    catalog.create_namespace("db")
    made = catalog.create_table("db.flights", schema=table.schema, **options)
    made.append(table)
    return made


def test_an_iceberg_column_stays_itself_when_it_is_renamed_widened_or_new(tmp_path: Path) -> None:
    table = created(tmp_path, rows(0, 2, c=["a", "b"]))
    first = table.current_snapshot().snapshot_id
    with table.update_schema() as update:
        update.rename_column("c", "carrier")
        update.update_column("n", LongType())
    with table.update_schema() as update:
        update.add_column("c", DoubleType())  # another column under the old name
    more = rows(2, 1, carrier=["d"], c=[2.5])
    table.append(more.set_column(1, "n", more["n"].cast(pa.int64())))
    assert in_order(iceberg(tmp_path), tmp_path, "carrier", "c") == [
        (0, "a", None),
        (1, "b", None),
        (2, "d", 2.5),
    ]
    assert read_schema(iceberg(tmp_path), str(tmp_path)).field("n").type == pa.int64()
    old = iceberg(tmp_path, snapshot=first)
    assert in_order(old, tmp_path, "c") == [(0, "a"), (1, "b")]
    assert read_schema(old, str(tmp_path)).field("n").type == pa.int32()


def test_an_iceberg_table_is_read_whatever_it_is_partitioned_by_and_rows_deleted_are_gone(
    tmp_path: Path,
) -> None:
    spec = PartitionSpec(
        PartitionField(source_id=1, field_id=1000, transform=IdentityTransform(), name="at"),
        PartitionField(source_id=3, field_id=1001, transform=IdentityTransform(), name="c"),
    )
    schema = created(tmp_path, rows(0, 1, c=["a"])).schema()
    catalog = load_catalog("test", **properties(tmp_path))
    table = catalog.create_table("db.parted", schema=schema, partition_spec=spec)
    table.append(rows(0, 4, c=["a", None, "b/c", "a"]))
    source = iceberg(tmp_path, table="db.parted")
    assert in_order(source, tmp_path, "c") == [(0, "a"), (1, None), (2, "b/c"), (3, "a")]
    kept = read_table(source, str(tmp_path), ["n"], between=(2 * DAY, 2 * DAY))
    assert kept.column("n").to_pylist() == [2]
    table.delete("n = 3")
    assert in_order(source, tmp_path) == [(0,), (1,), (2,)]


def test_what_is_wrong_with_an_iceberg_source_is_said(tmp_path: Path) -> None:
    created(tmp_path, rows(0, 1))
    with pytest.raises(SourceError, match=r'there is no Iceberg table "db.nope"'):
        read_schema(iceberg(tmp_path, table="db.nope"), str(tmp_path))
    with pytest.raises(SourceError, match=r"has no snapshot 5. Expected one of its 1, "):
        read_schema(iceberg(tmp_path, snapshot=5), str(tmp_path))
    nowhere = {"type": "sql", "uri": "sqlite:///no.sqlite"}
    with pytest.raises(SourceError, match=r'there is no SQLite catalog "no.sqlite"'):
        read_schema(iceberg(tmp_path, properties=nowhere), str(tmp_path))
    assert not (tmp_path / "no.sqlite").exists()


def test_iceberg_files_with_deletes_beside_them_or_in_another_format_are_refused(tmp_path: Path) -> None:
    # PyIceberg writes neither, so the tasks of a scan are given as it would plan them.
    table = created(tmp_path, rows(0, 1))
    (task,) = table.scan().plan_files()
    refuse_deletes(iceberg(tmp_path), [task])
    with pytest.raises(SourceError, match=r"are deleted by other files \(merge on read\)"):
        refuse_deletes(iceberg(tmp_path), [SimpleNamespace(file=task.file, delete_files={task.file})])
    other = SimpleNamespace(file_path="a/b.orc", file_format="ORC")
    with pytest.raises(SourceError, match=r'file "b.orc" is ORC'):
        refuse_deletes(iceberg(tmp_path), [SimpleNamespace(file=other, delete_files=set())])
