"""Keys: canonical, collision-free, and the same bytes from a table as from values."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.errors import StoreError
from mlflow_core.online.keys import decode_key, encode_key, encode_keys, key_value, plain_speller
from mlflow_core.spec import DType

VALUES = st.integers(-(2**63), 2**63 - 1) | st.text(max_size=6) | st.binary(max_size=6) | st.uuids()
KEYS = st.lists(VALUES, min_size=1, max_size=3).map(tuple)


@given(KEYS, KEYS)
def test_two_keys_have_the_same_bytes_only_if_they_are_the_same(one, other):
    same = [(type(value), value) for value in one] == [(type(value), value) for value in other]
    assert (encode_key(one) == encode_key(other)) is same


@given(KEYS)
def test_a_key_is_read_back_from_its_bytes(key):
    found = decode_key(encode_key(key))
    assert [(type(value), value) for value in found] == [(type(value), value) for value in key]
    assert decode_key(b"") == ()


@given(KEYS, st.data())
def test_what_is_no_key_is_refused_or_is_another_key(key, data):
    whole = encode_key(key)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        found = decode_key(cut)
    except StoreError:
        return
    assert encode_key(found) == cut


@pytest.mark.parametrize(
    "wrong", [b"\x09", b"\x01\0", b"\x02\0\0\0\x05ab", b"\x02\0\0\0\x01\xff", b"\x04abc"]
)
def test_damaged_keys_are_refused(wrong):
    with pytest.raises(StoreError, match="bytes"):
        decode_key(wrong)


def test_the_keys_that_a_careless_encoding_confuses_stay_apart():
    confusable = [
        ("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), (1,), ("1",), (b"1",), (b"a", b"bc"), (0,), ("",), (b"",),
        ("\x01\0\0\0\0\0\0\0\0",), (UUID(int=0),), (bytes(16),), ("00000000-0000-0000-0000-000000000000",), (),
    ]  # fmt: skip
    assert len({encode_key(key) for key in confusable}) == len(confusable)


def test_integers_of_every_width_are_one_key():
    wide = encode_keys(pa.table({"id": pa.array([7, None], pa.int64())}), ["id"])
    for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64()):
        assert encode_keys(pa.table({"id": pa.array([7, None], kind)}), ["id"]) == wide
    assert wide == [encode_key((7,)), None]
    assert encode_key((np.int32(7),)) == encode_key((7,))


def test_a_table_and_its_values_give_the_same_bytes_and_any_null_gives_none():
    uuids = [UUID(int=1), UUID(int=2), None]
    storage = pa.array([None if value is None else value.bytes for value in uuids], pa.binary(16))
    table = pa.table(
        {
            "origin": pa.array(["EWR", None, "JFK"]).dictionary_encode(),
            "number": [1, 2, -3],
            "raw": pa.array([b"\0", b"", b"x"], pa.large_binary()),
            "id": pa.ExtensionArray.from_storage(pa.uuid(), storage),
        }
    )
    table = pa.concat_tables([table, table])
    expected = [encode_key(("EWR", 1, b"\0", uuids[0])), None, None]
    assert encode_keys(table, ["origin", "number", "raw", "id"]) == expected * 2
    assert encode_keys(table.select(["origin"]), []) == [b""] * 6


def test_the_column_decides_the_type_of_a_sent_value():
    assert key_value(np.int64(3), DType.INT32, "id") == 3
    assert key_value("00000000-0000-0000-0000-000000000001", DType.UUID, "id") == UUID(int=1)
    assert key_value(None, DType.STRING, "id") is None
    for value, dtype in [
        (1, DType.STRING), ("1", DType.INT64), (1.0, DType.INT64), (True, DType.INT64), (2**63, DType.INT64),
        ("raw", DType.BYTES), ("no uuid", DType.UUID), (float("nan"), DType.STRING), ([1], DType.INT64),
    ]:  # fmt: skip
        with pytest.raises(StoreError, match=f'key column "id" was given .*Expected {dtype}'):
            key_value(value, dtype, "id")


def test_what_cannot_be_a_key_is_refused_by_name():
    with pytest.raises(StoreError, match=r'key column "orign" is missing.*Did you mean "origin"'):
        encode_keys(pa.table({"origin": ["EWR"]}), ["orign"])
    with pytest.raises(StoreError, match='key column "x" is double'):
        encode_keys(pa.table({"x": [0.5]}), ["x"])
    with pytest.raises(StoreError, match='key column "x"'):
        encode_keys(pa.table({"x": pa.array([2**63], pa.uint64())}), ["x"])
    for value in (True, 0.5, None, 2**63):
        with pytest.raises(StoreError, match="cannot be part of a key"):
            encode_key((value,))


SENT = {
    DType.INT64: st.integers(-(2**63), 2**63 - 1) | st.none() | st.integers(2**63, 2**64) | st.booleans(),
    DType.STRING: st.text(st.characters(codec=None, categories=["L", "Cs"]), max_size=3)
    | st.none()
    | st.integers(),
    DType.UUID: st.uuids() | st.uuids().map(str),
}


@given(
    st.sampled_from(list(SENT)).flatmap(
        lambda dtype: st.tuples(st.just(dtype), st.lists(SENT[dtype], max_size=4))
    )
)
def test_what_is_spelled_together_is_what_each_value_spells_and_else_each_is_looked_at(case):
    dtype, values = case
    together = plain_speller(dtype)(values)
    if together is not None:
        assert together == [encode_key((key_value(value, dtype, "id"),)) for value in values]
    elif dtype is not DType.UUID and values:
        with pytest.raises(StoreError):
            encode_key([key_value(value, dtype, "id") for value in values])


def test_a_value_that_is_no_key_is_shown_however_deep_it_is():
    deep = [1]
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(StoreError, match=r"was given \[\[.*\.\.\..*\(list\)"):
        key_value(deep, DType.INT64, "id")


def test_half_a_character_is_no_text():
    with pytest.raises(StoreError, match=r"key column \"id\" was given '\\ud800' \(str\).*Expected string"):
        key_value("\ud800", DType.STRING, "id")
