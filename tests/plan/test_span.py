"""The span of event times that can matter: dropping all other events changes no value, and it is no wider than need be."""

from __future__ import annotations

from random import Random

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlflow_core as ml
from mlflow_core.errors import PlanError
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.plan.span import joint_span, needed_span
from mlflow_core.testing.histories import History, random_history, read_under
from mlflow_core.testing.strategies import histories
from tests.oracle.features import Oracle

CLOCKS = ("event", "known", "served")
SEED = 20240303


def answers(view: ml.FeatureView, events: pa.Table, rows: pa.Table, clock: str) -> list[dict[str, object]]:
    oracle = Oracle(view, events, clock)
    times = rows["event_timestamp"].cast(pa.int64()).to_pylist()
    return [
        {
            name: repr(truth.value)
            for name, truth in oracle.answer([entity[key] for key in view.keys], t).items()
        }
        for entity, t in zip(rows.to_pylist(), times, strict=True)
    ]


def within(events: pa.Table, span: tuple[int | None, int | None]) -> pa.Table:
    times = events["t"].cast(pa.int64())
    keep = pc.is_valid(times)
    if span[0] is not None:
        keep = pc.and_(keep, pc.greater_equal(times, span[0]))
    if span[1] is not None:
        keep = pc.and_(keep, pc.less_equal(times, span[1]))
    return events.filter(keep)


def span_of(history: History, read: ViewRead) -> tuple[int | None, int | None]:
    times = history.rows["event_timestamp"].cast(pa.int64()).to_pylist()
    return needed_span(read, min(times), max(times))


def only(view: ml.FeatureView, random: Random) -> tuple[str, ...]:
    """Some of the features, so that it is their span and not that of the longest window."""
    kinds = [
        view.latest,
        tuple(w.name for w in view.windows),
        tuple(w.name for w in view.windows if w.over < 100),
    ]
    names = random.choice(kinds)
    some = random.sample(names, random.randint(1, 4))
    return tuple(name for name in view.feature_names if name in some)


@settings(max_examples=80, deadline=None)
@given(history=histories(events=25), clock=st.sampled_from(CLOCKS), seed=st.integers(0, 2**16))
def test_dropping_every_event_outside_the_span_changes_no_value(history, clock, seed):
    if not history.rows.num_rows:
        return
    read = ViewRead(
        history.view, only(history.view, Random(seed)), clock, read_under(history.view, clock).keys
    )
    kept = within(history.events, span_of(history, read))
    if history.view.source.event_id:
        assert kept.num_rows == history.events.num_rows
    before = answers(history.view, history.events, history.rows, clock)
    after = answers(history.view, kept, history.rows, clock)
    for one, other in zip(before, after, strict=True):
        assert {name: one[name] for name in read.features} == {name: other[name] for name in read.features}


@pytest.mark.parametrize("clock", CLOCKS)
def test_events_are_really_dropped_and_one_more_microsecond_would_change_a_value(clock):
    """In many worlds something is outside, and the first and last event times inside matter to some row."""
    random = Random(SEED)
    dropped = first_matters = last_matters = 0
    for _ in range(400):
        history = random_history(random, events=60, rows=2)
        if history.view.source.event_id or not history.rows.num_rows:
            continue
        read = ViewRead(history.view, only(history.view, random), clock, read_under(history.view, clock).keys)
        first, last = span_of(history, read)
        kept = within(history.events, (first, last))
        dropped += kept.num_rows < history.events.num_rows
        full = answers(history.view, kept, history.rows, clock)
        for narrower in (
            (None if first is None else first + 1, last),
            (first, None if last is None else last - 1),
        ):
            fewer = within(kept, narrower)
            seen = answers(history.view, fewer, history.rows, clock)
            changed = any(
                a[name] != b[name] for a, b in zip(full, seen, strict=True) for name in read.features
            )
            first_matters += changed and narrower[1] == last
            last_matters += changed and narrower[0] == first
    print(
        f"seed {SEED}, {clock}: {dropped} worlds with events outside, edges matter {first_matters}, {last_matters}"
    )
    assert dropped > 20
    assert first_matters > 0
    assert last_matters > 0


ORDERS = ml.ParquetSource("orders", path="orders.parquet", event_time="t")


def read_of(feature: object, clock: str = "event", **further: object) -> ViewRead:
    view = ml.FeatureView("v", entity=None, source=ORDERS, features=[feature], **further)
    return ViewRead(view, view.feature_names, clock, ())


@pytest.mark.parametrize(
    ("feature", "further", "expected"),
    [
        (ml.Agg("x", "sum", over="10us"), {}, (91, 200)),
        (ml.Agg("x", "sum", over="10us", boundary="[)"), {}, (90, 199)),
        (ml.Agg("x", "sum", over="10us", offset="5us"), {}, (86, 195)),
        (ml.Agg("x", "sum", over="10us", accuracy="hop(7us)"), {}, (85, 200)),
        (ml.Agg("x", "sum", over="10us", offset="5us", boundary="[)", accuracy="hop(7us)"), {}, (84, 194)),
        ("x", {"ttl": "30us"}, (70, 200)),
        ("x", {}, (None, 200)),
    ],
)
def test_the_span_is_the_rows_span_with_the_halo_of_what_is_asked(feature, further, expected):
    assert needed_span(read_of(feature, **further), 100, 200) == expected


def test_under_served_windows_end_at_boundaries_and_a_ttl_counts_from_the_row():
    every = ml.Every("60us", delay="10us")
    window = read_of(ml.Agg("x", "sum", over="10us"), "served", availability=every)
    assert needed_span(window, 129, 200) == (51, 180)
    assert needed_span(read_of("x", "served", availability=every, ttl="30us"), 129, 200) == (99, 180)
    # The row at 60 uses the boundary 0, which is before any row.
    assert needed_span(window, 60, 69) == (-9, 0)


def test_events_with_identities_are_never_dropped():
    source = ORDERS.model_copy(update={"event_id": "id"})
    view = ml.FeatureView("v", entity=None, source=source, features=[ml.Agg("x", "sum", over="10us")])
    assert needed_span(ViewRead(view, view.feature_names, "event", ()), 100, 200) == (None, None)


def test_served_without_availability_has_no_span():
    with pytest.raises(PlanError, match="no availability"):
        needed_span(read_of("x", "served"), 0, 1)


def test_a_joint_span_covers_each():
    assert joint_span([(3, 9), (1, 4)]) == (1, 9)
    assert joint_span([(3, None), (None, 4)]) == (None, None)
