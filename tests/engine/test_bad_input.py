"""What may be wrong with what a retrieval is given, on each route: one error that names object and file, or a
result that is written down here. Nothing is left behind, and once the data is mended the answer is right.
"""

from __future__ import annotations

import datetime as dt
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.engine.retrieve import retrieve, retrieve_to_shards
from mlflow_core.engine.route import InProcess, OnDask, Route
from mlflow_core.errors import EngineError, PlanError, SourceError
from mlflow_core.spec import Agg, Entity, FeatureView, ParquetSource
from tests.engine.worlds import plan_of

US = pa.timestamp("us", "UTC")
NOON = dt.datetime(2013, 1, 1, 12, tzinfo=dt.UTC)
LAST = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC)
VIEW = FeatureView(
    "delays",
    entity=Entity("carrier"),
    source=ParquetSource("flights", path="flights", event_time="at"),
    features=["x", Agg("x", ["sum", "count"], over="1d")],
)
GOOD = {"carrier": ["UA", "AA"], "at": pa.array([NOON, NOON], US), "x": [1.5, 2.0]}
RIGHT = {"x": [1.5, 2.0, None], "x_sum_1d": [1.5, 2.0, None], "x_count_1d": [1, 1, 0]}


@dataclass(frozen=True)
class Place:
    """A feature repository with one source, and a route to compute on."""

    base: Path
    route: Route

    def put(self, name: str = "b.parquet", **columns: Any) -> Path:
        path = self.base / "flights" / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({**GOOD, **columns}), path)
        return path

    def ask(self, rows: pa.Table | None = None) -> dict[str, list[Any]]:
        found = retrieve(
            plan_of(VIEW, "event"), asked() if rows is None else rows, base=str(self.base), route=self.route
        )
        return found.select(list(VIEW.feature_names)).to_pydict()

    def refuses(self, rows: pa.Table | None = None) -> str:
        """The error, the same for a table and for shards; nothing is left of what was begun."""
        rows = asked() if rows is None else rows
        with pytest.raises((SourceError, EngineError, PlanError)) as caught:
            self.ask(rows)
        with pytest.raises(type(caught.value)) as again:
            retrieve_to_shards(
                plan_of(VIEW, "event"), rows, base=str(self.base), out=self.base / "out", route=self.route
            )
        assert str(again.value) == str(caught.value)
        assert "\n" not in str(caught.value)
        assert self.left() == []
        return str(caught.value)

    def left(self) -> list[Path]:
        """What is on disk beside the source and whole layouts."""
        work = [path for name in ("out", "work") for path in (self.base / name).rglob("*") if path.is_file()]
        layouts = self.base / "work-layouts"
        entries = layouts.iterdir() if layouts.exists() else ()
        return work + [
            one
            for one in entries
            if one.is_dir() and not (one / "entry.json").exists() and any(one.iterdir())
        ]


def asked(**columns: Any) -> pa.Table:
    rows = {"carrier": ["UA", "AA", "DL"], "event_timestamp": pa.array([NOON] * 3, US)}
    return pa.table({**rows, **columns})


@pytest.fixture(params=["in process", "on Dask"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    # Not below the test's own folder, which others may not enter.
    base = Path(tempfile.mkdtemp(prefix="mlcore-bad-input-"))
    on_dask = request.param == "on Dask"
    yield Place(
        base, OnDask(request.getfixturevalue("client"), base / "work", buckets=2) if on_dask else InProcess()
    )
    shutil.rmtree(base)


def empty(place: Place) -> None:
    path = place.put()
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def cut_off(place: Place) -> None:
    path = place.put()
    path.write_bytes(path.read_bytes()[:200])


def missing(place: Place) -> None:
    assert not (place.base / "flights").exists()


def drifted(**columns: Any) -> Callable[[Place], None]:
    def put(place: Place) -> None:
        place.put("a.parquet")
        place.put(**columns)

    return put


def only(**columns: Any) -> Callable[[Place], None]:
    return lambda place: place.put(**columns) and None


NO_TEXT = pa.array([b"UA", b"\xff\xfe"], pa.binary()).view(pa.string())
REFUSED: dict[str, tuple[Callable[[Place], None], list[str]]] = {
    "a missing file": (missing, ['no file or folder "flights"']),
    "an empty source": (empty, ["without a row"]),
    "a file cut off": (cut_off, ['"b.parquet"']),
    "a type that drifts": (drifted(x=["a", "b"]), ['"b.parquet"', '"x"']),
    "a column that one file lacks": (drifted(x2=[1, 2]), ['"b.parquet"', '"x2"']),
    "values of the wrong type": (only(x=["a", "b"]), ['"delays"', "string"]),
    "a time of the wrong type": (only(at=[1, 2]), ['"at"', "int64"]),
    "bytes that are no text": (only(carrier=NO_TEXT), ["b.parquet", '"carrier"', "UTF-8"]),
    "a time beyond microseconds": (only(at=pa.array([2**62, 0], pa.timestamp("ms"))), ["b.parquet", '"at"']),
    "keys of another type": (only(carrier=[1, 2]), ['"carrier"', "int64", "string"]),
    "keys that are no keys": (only(carrier=[1.5, 2.5]), ['"carrier"', "double"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_named_and_once_mended_answered(place: Place, what: str) -> None:
    spoil, told = REFUSED[what]
    spoil(place)

    message = place.refuses()

    for word in told:
        assert word in message
    assert "flights" in message or "delays" in message
    place.put("b.parquet")
    (place.base / "flights" / "a.parquet").unlink(missing_ok=True)
    assert place.ask() == RIGHT


def test_an_error_in_one_file_keeps_nothing_wrong_of_the_others(place: Place) -> None:
    place.put("a.parquet")
    bad = place.put("b.parquet")
    bad.write_bytes(bad.read_bytes()[:200])
    assert "b.parquet" in place.refuses()
    place.put("b.parquet", x=[3.0, 4.0])
    assert place.ask() == {"x": [3.0, 4.0, None], "x_sum_1d": [4.5, 6.0, None], "x_count_1d": [2, 2, 0]}


def test_unsorted_and_repeated_rows_each_count(place: Place) -> None:
    later = NOON - dt.timedelta(seconds=1)
    place.put("a.parquet", at=pa.array([NOON, later], US), carrier=["UA", "UA"])
    place.put("b.parquet", at=pa.array([later, later], US), carrier=["UA", "UA"])
    assert place.ask() == {"x": [1.5, None, None], "x_sum_1d": [7.0, None, None], "x_count_1d": [4, 0, 0]}


@pytest.mark.parametrize("kind", [pa.float64(), pa.null()], ids=str)
def test_a_column_of_nulls_is_null_and_counts_nothing(place: Place, kind: pa.DataType) -> None:
    place.put("a.parquet", x=pa.nulls(2, kind))
    if kind == pa.null():
        place.put("b.parquet")
    else:
        assert place.ask() == {"x": [None] * 3, "x_sum_1d": [None] * 3, "x_count_1d": [0] * 3}
        place.put("b.parquet")
    assert place.ask() == RIGHT


def test_keys_of_nulls_only_match_nothing(place: Place) -> None:
    place.put(carrier=pa.nulls(2, pa.string()))
    assert place.ask() == {"x": [None] * 3, "x_sum_1d": [None] * 3, "x_count_1d": [0] * 3}


def test_no_entity_row_is_an_empty_answer_with_all_columns(place: Place) -> None:
    place.put()
    assert place.ask(asked().slice(0, 0)) == {"x": [], "x_sum_1d": [], "x_count_1d": []}


def test_zones_and_units_of_files_and_entity_rows_may_differ(place: Place) -> None:
    moments = pa.array([NOON, NOON], US)
    place.put("a.parquet", at=moments.cast(pa.timestamp("ns", "America/New_York")))
    place.put("b.parquet", at=moments.cast(pa.timestamp("ms")), carrier=["DL", "DL"])
    rows = asked(event_timestamp=pa.array([NOON] * 3, US).cast(pa.timestamp("s", "+05:30")))
    assert place.ask(rows) == {"x": [1.5, 2.0, 2.0], "x_sum_1d": [1.5, 2.0, 3.5], "x_count_1d": [1, 1, 2]}


def test_the_last_moment_of_the_calendar_is_a_time_like_any_other(place: Place) -> None:
    place.put(at=pa.array([LAST, NOON], US))
    assert place.ask() == {"x": [None, 2.0, None], "x_sum_1d": [None, 2.0, None], "x_count_1d": [0, 1, 0]}
    late = asked(event_timestamp=pa.array([LAST] * 3, US))
    assert place.ask(late) == {"x": [1.5, 2.0, None], "x_sum_1d": [1.5, None, None], "x_count_1d": [1, 0, 0]}


def test_nan_is_a_null_and_an_infinity_is_a_value(place: Place) -> None:
    place.put(x=[math.nan, math.inf])
    assert place.ask() == {
        "x": [None, math.inf, None],
        "x_sum_1d": [None, math.inf, None],
        "x_count_1d": [0, 1, 0],
    }


def test_entity_rows_of_another_key_type_or_without_a_time_are_refused(place: Place) -> None:
    place.put()
    message = place.refuses(asked(carrier=[1, 2, 3]))
    assert '"carrier"' in message
    assert "int64" in message
    assert "string" in message
    message = place.refuses(asked(event_timestamp=pa.array([NOON, None, NOON], US)))
    assert 'entity rows: "event_timestamp" is null in row 1' in message
    assert place.ask() == RIGHT
