"""Laws that no answer may break, whatever the world: what must not matter is changed, and nothing else changes.

"Nothing" is said twice: everything that is exact by the rules is equal to what it was, and every value, floating
sums included, is still what the plain loop gives for the world as it was.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.engine.retrieve import retrieve
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.engine.views.view import compute_view
from mlflow_core.testing.histories import History, random_history, read_under
from mlflow_core.testing.strategies import histories
from tests.engine.comparison import differing
from tests.engine.worlds import at_path, plan_of, with_source, write_in_parts

SEED = 1_201
CLOCKS = ("event", "known", "served")
FLOATING = {"sum", "mean", "var", "std"}
LONG = pytest.mark.long
IN_MEMORY = pytest.mark.parametrize("worlds", [4, pytest.param(60, marks=LONG)], ids=["short", "long"])
IN_FILES = pytest.mark.parametrize("worlds", [2, pytest.param(12, marks=LONG)], ids=["short", "long"])
UNDER_EACH_CLOCK = pytest.mark.parametrize("clock", CLOCKS)


def answers(history: History, clock: str) -> pa.Table:
    return compute_view(history.events, history.rows, read_under(history.view, clock))


def changed(history: History, clock: str, before: pa.Table, after: pa.Table) -> list[str]:
    """Say what differs of two answers to one world: nothing exact may, and all must be true."""
    rounded = {window.name for window in history.view.windows if window.function.name in FLOATING}
    exact = [name for name in history.view.feature_names if name not in rounded]
    unequal = [name for name in exact if not after[name].equals(before[name])]
    return unequal + differing(history, clock, after.select(history.view.feature_names))


def some_worlds(number: int, *, events: int = 60, rows: int = 30):
    random = Random(SEED)
    for _ in range(number):
        yield random, random_history(random, events=events, rows=rows)


def with_column(events: pa.Table, name: str, values: list) -> pa.Table:
    at = events.column_names.index(name)
    return events.set_column(at, name, pa.array(values, pa.int64()).cast(events.schema.field(name).type))


def untied(history: History, random: Random) -> History:
    """Give each row its own time of creation, so that the order of the source decides nothing."""
    made = list(range(history.events.num_rows))
    random.shuffle(made)
    return replace(with_source(history, created="made"), events=with_column(history.events, "made", made))


def identified(history: History) -> History:
    """Give an event_id to each row that has none."""
    ids = [-1 - row if one is None else one for row, one in enumerate(history.events["id"].to_pylist())]
    return replace(with_source(history, event_id="id"), events=with_column(history.events, "id", ids))


def permuted_rows(random: Random, history: History, clock: str) -> list[str]:
    n = history.rows.num_rows
    order = [*random.sample(range(n), n), *(random.randrange(n) for _ in range(n // 2))]
    again = replace(history, rows=history.rows.take(pa.array(order, pa.int64())))
    return changed(
        again, clock, answers(history, clock).take(pa.array(order, pa.int64())), answers(again, clock)
    )


def permuted_events(random: Random, history: History, clock: str) -> list[str]:
    history = untied(history, random)
    n = history.events.num_rows
    shuffled = replace(history, events=history.events.take(pa.array(random.sample(range(n), n), pa.int64())))
    return changed(history, clock, answers(history, clock), answers(shuffled, clock))


def future_events(random: Random, history: History, clock: str) -> list[str]:
    last = max(history.rows["event_timestamp"].cast(pa.int64()).to_pylist(), default=0)
    later = with_column(
        history.events, "t", [last + random.randint(1, 9) for _ in range(history.events.num_rows)]
    )
    with_future = replace(history, events=pa.concat_tables([later.slice(0, 20), history.events, later]))
    return changed(history, clock, answers(history, clock), answers(with_future, clock))


@settings(max_examples=15)
@given(history=histories(), random=st.randoms(use_true_random=False), clock=st.sampled_from(CLOCKS))
@pytest.mark.parametrize("law", [permuted_rows, permuted_events, future_events])
def test_no_world_that_hypothesis_draws_breaks_a_law(law, history, random, clock):
    assert law(random, history, clock) == []


@IN_MEMORY
@UNDER_EACH_CLOCK
def test_entity_rows_permuted_and_repeated_give_their_answers_permuted_and_repeated(clock, worlds):
    for random, history in some_worlds(worlds):
        assert permuted_rows(random, history, clock) == []


@IN_MEMORY
@UNDER_EACH_CLOCK
def test_source_rows_permuted_change_nothing_where_no_two_are_tied(clock, worlds):
    for random, history in some_worlds(worlds):
        assert permuted_events(random, history, clock) == []


@IN_MEMORY
@UNDER_EACH_CLOCK
def test_events_after_every_entity_row_change_nothing(clock, worlds):
    for random, history in some_worlds(worlds):
        assert future_events(random, history, clock) == []


@IN_MEMORY
def test_events_not_known_by_any_entity_row_change_nothing_under_known(worlds):
    for random, history in some_worlds(worlds):
        history = with_source(history, known_at="known")
        last = max(history.rows["event_timestamp"].cast(pa.int64()).to_pylist(), default=0)
        times = [last + random.randint(1, 9) for _ in range(history.events.num_rows)]
        late = with_column(history.events, "known", times)
        with_late = replace(history, events=pa.concat_tables([late, history.events]))

        assert changed(history, "known", answers(history, "known"), answers(with_late, "known")) == []


@IN_FILES
@UNDER_EACH_CLOCK
def test_a_source_cut_into_files_is_the_source(clock, worlds, tmp_path):
    for random, history in some_worlds(worlds):
        history = at_path(history, "events")
        plan = plan_of(history.view, clock)
        cuts = sorted(random.choices(range(history.events.num_rows + 1), k=5))
        write_in_parts(history, tmp_path / "events", [(0, None)])
        whole = retrieve(plan, history.rows, base=str(tmp_path))
        write_in_parts(history, tmp_path / "events", zip([0, *cuts], [*cuts, None], strict=True))

        assert changed(history, clock, whole, retrieve(plan, history.rows, base=str(tmp_path))) == []


@IN_FILES
@UNDER_EACH_CLOCK
def test_a_file_given_twice_changes_nothing_where_events_have_an_id(clock, worlds, tmp_path, client):
    for random, history in some_worlds(worlds):
        if not history.events.num_rows:
            continue  # an empty source is an error
        # Of versions that were made at one time the later row counts, which the copy would then be.
        history = at_path(untied(identified(history), random), "events")
        plan = plan_of(history.view, clock)
        write_in_parts(history, tmp_path / "events", [(0, 25), (25, None)])
        once = retrieve(plan, history.rows, base=str(tmp_path))
        again = history.events.slice(0, 25) if random.random() < 0.5 else history.events.slice(25)
        pq.write_table(again, tmp_path / "events" / "given-again.parquet")

        on_dask = OnDask(client, tmp_path / "work", buckets=2)
        for route in (InProcess(), on_dask):
            twice = retrieve(plan, history.rows, base=str(tmp_path), route=route)
            assert changed(history, clock, once, twice) == [], route


@IN_FILES
@UNDER_EACH_CLOCK
def test_routes_and_numbers_of_buckets_change_nothing(clock, worlds, tmp_path, client):
    for random, history in some_worlds(worlds):
        history = at_path(history, "events")
        plan = plan_of(history.view, clock)
        write_in_parts(history, tmp_path / "events", [(0, 20), (20, 21), (21, None)])
        in_process = retrieve(plan, history.rows, base=str(tmp_path))

        for buckets in (1, random.randint(2, 9)):
            route = OnDask(client, tmp_path / "work", buckets=buckets)
            on_dask = retrieve(plan, history.rows, base=str(tmp_path), route=route)
            assert changed(history, clock, in_process, on_dask) == [], buckets


def test_the_laws_see_an_event_that_was_lost():
    lost = 0
    for _, history in some_worlds(4):
        fewer = replace(history, events=history.events.slice(1))
        lost += bool(changed(history, "event", answers(history, "event"), answers(fewer, "event")))
    assert lost
