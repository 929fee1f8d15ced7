"""Many views written in one call: one graph, sources read once for all their views, failures that stop no other."""

from __future__ import annotations

import itertools
import pkgutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.materialise import Ask, materialise
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.engine.sink import Sunk
from mlflow_core.engine.views.changes import Since
from mlflow_core.errors import EngineError, SourceError, StoreError
from mlflow_core.spec import Agg, Entity, FeatureView, ParquetSource
from mlflow_core.telemetry import SilentProgress
from mlflow_core.testing.sinks import CountingSink, FolderSink

N = 60


def source(folder: Path, name: str, *, files: int = 3) -> ParquetSource:
    (folder / name).mkdir()
    for number in range(files):
        rows = range(number * N, (number + 1) * N)
        events = {"k": [row % 7 for row in rows], "j": [row % 3 for row in rows], "x": list(rows)}
        moments = pa.array(list(rows)).cast(pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({**events, "t": moments}), folder / name / f"{number}.parquet")
    return ParquetSource(name, path=name, event_time="t")


def view(name: str, of: ParquetSource, key: str = "k", **also: Any) -> FeatureView:
    features = ["x", Agg("x", "sum", over="1h", name=f"{name}_sum")]
    return FeatureView(name, entity=Entity(key), source=of, features=features, **also)


class Told(SilentProgress):
    """Remembers which stages there were, and how much they were told."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Any:
        self.stages.append(f"{name}: {total} {unit}")
        return super().stage(name, total, unit)


@pytest.fixture(params=["in process", "here by buckets", "on Dask"])
def route(request: pytest.FixtureRequest, tmp_path: Path) -> InProcess | OnDask:
    cache = Cache(tmp_path / "cache")
    if request.param == "on Dask":
        return OnDask(request.getfixturevalue("client"), tmp_path / "work", buckets=2, cache=cache)
    return InProcess(fits=0 if request.param == "here by buckets" else 1 << 30, cache=cache)


def test_all_views_of_a_call_are_computed_together_and_a_source_is_read_once(tmp_path, route):
    events, others = source(tmp_path, "events"), source(tmp_path, "others", files=1)
    views = [view("a", events), view("b", events), view("c", events, "j"), view("d", others)]
    progress = Told()
    sinks = [FolderSink(tmp_path / one.name) for one in views]

    done = list(
        materialise(
            [Ask(one, 1_000, sink) for one, sink in zip(views, sinks, strict=True)],
            base=str(tmp_path),
            route=route,
            progress=progress,
        )
    )

    assert sorted(one.place for one in done) == [0, 1, 2, 3]
    assert [one.failure for one in done] == [None] * 4
    assert [sink.table().num_rows for sink in sinks] == [7, 7, 3, 7]
    reports = {one.place: one.report for one in done}
    assert [reports[place].rows for place in range(4)] == [7, 7, 3, 7]
    assert [reports[place].events for place in range(4)] == [3 * N] * 3 + [N]
    if isinstance(route, OnDask):
        # views of one source and keys share a layout: three files by k, three by j, one of the others
        assert progress.stages[0] == "parting events, others: 7 parts"
        assert progress.stages[1] == "materialising a, b, c, d: 8 buckets"
    elif route.fits:
        assert [one for one in progress.stages if one.startswith("reading")] == [
            "reading events: None rows",
            "reading others: None rows",
        ]


def test_a_view_that_fails_stops_no_other_and_says_how_far_it_came(tmp_path, route):
    good, gone, broken = (source(tmp_path, name) for name in ("good", "gone", "broken"))
    for file in (tmp_path / "gone").iterdir():
        file.unlink()
    whole = (tmp_path / "broken" / "1.parquet").read_bytes()
    (tmp_path / "broken" / "1.parquet").write_bytes(whole[:4] + b"\xff" * 400 + whole[404:])
    big = FeatureView(
        "big",
        entity=Entity("k"),
        source=good,
        columns={"y": "x + 9223372036854775000"},
        features=[Agg("y", "sum", over="1h", name="s")],
    )
    views = [view("a", good), view("b", gone), view("c", broken), big, view("d", good)]

    done = {
        one.place: one
        for one in materialise(
            [Ask(one, 1_000, CountingSink()) for one in views], base=str(tmp_path), route=route
        )
    }

    assert [done[place].failure for place in (0, 4)] == [None, None]
    assert isinstance(done[1].failure, SourceError)
    assert isinstance(done[2].failure, SourceError)
    assert isinstance(done[3].failure, EngineError)
    assert done[4].report.sunk == Sunk(7)


OF_EACH_SOURCE = ("sources.open_source", "_Events.read")
OF_EACH_VIEW = ("needed_columns", "delta_of", "_Events.of", "snapshot_at", "part_names", "write_parts")


@pytest.mark.parametrize(
    ("step", "shared"),
    [*((step, False) for step in OF_EACH_SOURCE + OF_EACH_VIEW), *((step, True) for step in OF_EACH_VIEW)],
)
def test_what_is_unforeseen_at_one_view_stops_no_other(tmp_path, monkeypatch, step, shared):
    """Most of it happens in the thread that is ahead."""
    whole = "mlflow_core.engine.buckets.whole"
    real, calls = pkgutil.resolve_name(f"{whole}:{step}"), itertools.count(1)

    def failing_once(*args: Any) -> Any:
        if next(calls) == 3:
            raise ZeroDivisionError(step)
        return real(*args)

    events = [source(tmp_path, name) for name in ("v" if shared else "vwxyz")]
    views = [view(f"view_{i}", events[0 if shared else i]) for i in range(5)]
    asks = [Ask(one, 1_000, CountingSink(), Since(0, ())) for one in views]
    monkeypatch.setattr(f"{whole}.{step}", failing_once)

    done = {one.place: one for one in materialise(asks, base=str(tmp_path))}

    assert sorted(done) == [0, 1, 2, 3, 4]
    assert [place for place, one in done.items() if one.failure is not None] == [2]
    assert isinstance(done[2].failure, ZeroDivisionError)
    assert [one.report.sunk.rows for place, one in sorted(done.items()) if place != 2] == [7] * 4


class Refusing:
    """A store that takes one row and refuses the others."""

    def __init__(self) -> None:
        self.closed = 0

    def write(self, table: pa.Table) -> Sunk:
        if table.num_rows > 1:
            raise StoreError("refuses more than a row")
        return Sunk(1, 1)

    def close(self) -> None:
        self.closed += 1


def test_a_store_that_refuses_fails_its_view_and_is_closed(tmp_path):
    events, sink = source(tmp_path, "events"), Refusing()

    [done] = materialise([Ask(view("a", events), 1_000, sink)], base=str(tmp_path))

    assert isinstance(done.failure, StoreError)
    assert (done.report.rows, done.report.sunk) == (7, Sunk())
    assert sink.closed == 1


@pytest.mark.parametrize("fits", [0, 1 << 30], ids=["by buckets", "from memory"])
def test_rows_are_given_in_batches(tmp_path, monkeypatch, fits):
    monkeypatch.setattr("mlflow_core.engine.views.written.ROWS_A_WRITE", 2)
    sink, route = FolderSink(tmp_path / "rows"), InProcess(fits=fits, cache=Cache(tmp_path / "cache"))

    [done] = materialise(
        [Ask(view("a", source(tmp_path, "events")), 1_000, sink)], base=str(tmp_path), route=route
    )

    sizes = [feather.read_table(file).num_rows for file in (tmp_path / "rows").iterdir()]
    assert done.report.sunk.rows == sum(sizes) == 7
    assert max(sizes) == 2
