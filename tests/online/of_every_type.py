"""Values of every type that a feature can have: drawn, as Arrow holds them, and compared."""

from __future__ import annotations

import math
import struct

import pyarrow as pa
from hypothesis import strategies as st

from mlflow_core.algebra.types import arrow_type
from mlflow_core.spec import DType

INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(-(2**55), 2**55)
ITEMS = {
    DType.BOOL: st.booleans(),
    DType.INT64: INT64,
    DType.INT32: st.integers(-(2**31), 2**31 - 1),
    DType.FLOAT64: st.floats(),
    DType.FLOAT32: st.floats(width=32),
    DType.STRING: st.text(max_size=12),
    DType.BYTES: st.binary(max_size=12),
    DType.TIMESTAMP: TIMES,
    DType.UUID: st.uuids(),
    DType.MAP: st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=4), max_size=4),
}


def values_of(dtype: DType) -> st.SearchStrategy:
    item = ITEMS[dtype.item]
    return st.none() | (item if dtype.item is dtype else st.lists(st.none() | item, max_size=9))


def to_arrow(values: list, dtype: DType) -> pa.Array:
    if dtype is DType.UUID:
        storage = pa.array([None if value is None else value.bytes for value in values], pa.binary(16))
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)
    if dtype is DType.TIMESTAMP:
        return pa.array(values, pa.int64()).cast(arrow_type(dtype))
    if dtype is DType.TIMESTAMP_LIST:
        return pa.array(values, pa.list_(pa.int64())).cast(arrow_type(dtype))
    if dtype is DType.MAP:
        return pa.array(
            [None if value is None else list(value.items()) for value in values], arrow_type(dtype)
        )
    return pa.array(values, arrow_type(dtype))


def same(got: object, wanted: object) -> bool:
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(same, got, wanted))
    if isinstance(wanted, float) and isinstance(got, float):
        # to the bit, save for NaN's payload
        return (math.isnan(got) and math.isnan(wanted)) or struct.pack("d", got) == struct.pack("d", wanted)
    return type(got) is type(wanted) and got == wanted
