"""A block of rows is the rows that it stands for: to whoever goes through it, and to each store."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.config.clock import FixedClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.codec import RowCodec
from mlflow_core.online.head import SCHEMA_AT
from mlflow_core.online.keys import encode_keys, key_records
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.online.rows import RowBlock, bytes_of, greatest, one_schema
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.testing.online_contract import packed
from tests.servers.redis import redis_server

V = OnlineTable("v", ("id",))
INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def server():
    with redis_server() as started:
        yield started


@pytest.fixture(params=["redis", "sqlite"])
def backend(request, server, tmp_path):
    server.flush()
    make, place = {"redis": (RedisBackend, server.url), "sqlite": (SqliteBackend, tmp_path / "online.db")}[
        request.param
    ]
    opened = make(place, "p", FixedClock(1_000))
    yield opened
    opened.close()


def block(rows):
    keys, values = ([row[i] for row in rows] for i in (0, 1))
    return RowBlock(np.array(keys, f"V{len(keys[0])}"), np.array(values, f"V{len(values[0])}"))


@settings(deadline=None)
@given(
    st.lists(st.tuples(INT64, INT64, st.none() | st.floats(allow_nan=False)), max_size=20),
    st.sampled_from([("a",), ("a", "b"), ("b", "a")]),
)
def test_keys_and_values_side_by_side_are_those_packed_one_by_one(rows, keys):
    names = ("a", "b", "x")
    table = pa.table(
        {
            name: pa.array([row[i] for row in rows], kind)
            for i, (name, kind) in enumerate(zip(names, (pa.int64(), pa.int64(), pa.float64()), strict=True))
        }
    )
    codec = RowCodec(pa.schema([("x", pa.float64()), ("a", pa.int64())]))
    times = np.arange(len(rows), dtype=np.int64)
    spelled, values = key_records(table, keys), codec.records(table, times, times - 3)
    assert list(RowBlock(spelled, values)) == list(
        zip(encode_keys(table, keys), codec.encode(table, times, times - 3), strict=True)
    )


def test_keys_of_other_types_or_with_a_null_are_spelled_one_by_one():
    table = pa.table({"text": ["a"], "number": [1], "gap": pa.array([None], pa.int64())})
    assert key_records(table, ["number"]) is not None
    assert [key_records(table, names) for names in (["text"], ["gap"], ["number", "gap"], [], ["none"])] == [
        None
    ] * 5


def test_features_of_varying_length_have_no_records():
    codec = RowCodec(pa.schema([("text", pa.string())]))
    with pytest.raises(ValueError, match="varying"):
        codec.records(pa.table({"text": ["a"]}), np.zeros(1, np.int64), np.zeros(1, np.int64))


@pytest.mark.parametrize("width", [3, 8, 20])
def test_zeros_at_the_end_of_keys_and_values_count(width):
    keys = [b"k" * (width - 2) + end for end in (b"\0\0", b"\0\1", b"\1\0", b"aa")]
    rows = [(key, packed(1, 0, "x") + bytes(8)) for key in keys]
    assert list(block(rows)) == rows
    assert block(rows).distinct
    assert not block([*rows, rows[2]]).distinct
    assert bytes_of(block(rows)) == bytes_of(rows)


def test_ends_that_are_the_same_do_not_make_keys_the_same():
    rows = [(b"%d" % i + b"end" * 4, packed(1, 0, "x")) for i in range(3)]
    assert greatest(block(rows))[:2][1] == rows[1]
    assert block(rows).distinct


def test_a_block_is_as_long_as_its_keys_and_its_values():
    with pytest.raises(ValueError, match="2 keys were given for 1 values"):
        RowBlock(np.zeros(2, "V1"), np.zeros(1, "V1"))


@pytest.mark.parametrize("n", [1, 499, 500, 501, 1_700])
def test_a_store_takes_a_block_as_it_takes_its_rows(backend, n):
    older, newer = ([(b"%08d" % i, packed(at, 0, f"{at}")) for i in range(n)] for at in (1, 2))
    assert backend.write(V, block(newer[::2])) == len(newer[::2])
    assert backend.write(V, block(older)) == n - len(newer[::2]), "a greater version stays"
    assert backend.write(V, block(older)) == 0
    wanted = [newer[i][1] if i % 2 == 0 else older[i][1] for i in range(n)]
    [found] = backend.read([Ask(("id",), ("v",), [key for key, _ in older])])
    assert [one for (one,) in found] == wanted


def test_of_a_key_that_is_twice_in_a_block_the_greater_version_is_written(backend):
    rows = [(b"k", packed(at, 0, f"{at}")) for at in (2, 3, 1)]
    assert backend.write(V, block(rows)) == 1
    assert list(backend.read([Ask(("id",), ("v",), [b"k"])])[0][0]) == [rows[1][1]]


def test_a_block_of_several_schemas_is_refused(backend):
    one = packed(1, 0, "x")
    other = one[: SCHEMA_AT.start] + b"another!" + one[SCHEMA_AT.stop :]
    assert one_schema(block([(b"k", one)]), "v") == one[SCHEMA_AT]
    with pytest.raises(StoreError, match="rows of 2 schemas were written at once"):
        backend.write(V, block([(b"k", one), (b"l", other)]))
    assert list(backend.read([Ask(("id",), ("v",), [b"k"])])[0][0]) == [None]
