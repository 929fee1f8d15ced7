"""Times in Feast's JSON are protobuf's own, one by one and many at once."""

from __future__ import annotations

import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.errors import StoredRowError
from mlflow_core.serve.stamps import stamp, stamps

LEAST, MOST = -62_135_596_800_000_000, 253_402_300_799_999_999
TIMES = (
    st.integers(LEAST, MOST)
    | st.integers(-2, 2).map(lambda n: n * 1_000)
    | st.sampled_from([0, 1_000_000, LEAST, MOST])
)


def by_protobuf(us: int) -> str:
    found = Timestamp()
    found.FromMicroseconds(us)
    return found.ToJsonString()


@given(TIMES)
def test_a_time_is_written_as_protobuf_writes_it(us: int) -> None:
    assert stamp(us) == by_protobuf(us)


@given(st.lists(TIMES, max_size=40))
def test_many_times_are_written_as_each_of_them_is(times: list[int]) -> None:
    assert orjson.loads(stamps(times)) == [by_protobuf(time) for time in times]


def test_no_time_is_the_epoch_and_no_date_at_all_is_the_rows_fault() -> None:
    assert orjson.loads(stamps([None, 0] * 5)) == ["1970-01-01T00:00:00Z"] * 10
    for beyond in (LEAST - 1, MOST + 1):
        with pytest.raises(StoredRowError, match=f"stored time of {beyond} microseconds.*years 1 to 9999"):
            stamps([0] * 9 + [beyond])
