"""Keys of entity rows and events, and identities of events: what matches, what never does, what is refused."""

from __future__ import annotations

import uuid

import pyarrow as pa
import pytest

from mlflow_core.errors import SourceError
from tests.engine.by_eye import asked, source_of, times, view_of


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([1, 2, None], pa.int32()),
        pa.array(["a", "", None]),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array([b"\xff", b"", None], pa.large_binary()),
        pa.array([uuid.UUID(int=1), uuid.UUID(int=2), None], pa.uuid()),
    ],
    ids=["int32", "string", "dictionary", "bytes", "uuid"],
)
def test_keys_of_each_kind_match_themselves_and_a_null_matches_nothing(keys):
    events = {"k": keys, "t": times(1, 1, 1), "x": [10, 20, 30]}

    out = asked(
        view_of("x"), events, {"k": keys.take(pa.array([1, 0, 2, 1])), "event_timestamp": times(1, 1, 1, 1)}
    )

    assert out["x"] == [20, 10, None, 20]


@pytest.mark.parametrize("keys", [pa.array(["1"]), pa.array([1.0]), pa.array([b"1"]), pa.array([True])])
def test_a_key_of_another_kind_than_the_sources_is_an_error_that_names_both(keys):
    with pytest.raises(
        SourceError,
        match=rf'"k" of the entity rows holds {keys.type}, column "k" of ParquetSource "s" holds int64',
    ):
        asked(view_of("x"), {"k": [1], "t": times(1), "x": [1]}, {"k": keys, "event_timestamp": times(1)})


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([2**62, 2**62 + 1], pa.decimal128(20, 0)),
        pa.array([float(2**62), float(2**62 + 1)]),
        pa.array([[1], [1]]),
    ],
    ids=["decimal", "float", "list"],
)
def test_an_identity_that_could_round_to_anothers_is_refused(ids):
    view = view_of("x", source=source_of(event_id="id"))

    with pytest.raises(SourceError, match=r'ParquetSource "s": event_id column "id" holds'):
        asked(
            view,
            {"k": [1, 1], "t": times(1, 2), "id": ids, "x": [1, 2]},
            {"k": [1], "event_timestamp": times(9)},
        )


def test_composite_keys_match_whole_and_views_without_keys_match_every_row():
    events = {"a": ["x", "x", ""], "b": [1, 2, 1], "t": times(1, 1, 2), "v": [1, 2, 3]}
    rows = {"a": ["x", "", "x", None], "b": [2, 1, 9, 1], "event_timestamp": times(5, 5, 5, 5)}

    assert asked(view_of("v", keys=("a", "b")), events, rows) == {"v": [2, 3, None, None]}
    assert asked(view_of("v", keys=()), events, {"event_timestamp": times(0, 1, 2)}) == {"v": [None, 2, 3]}
