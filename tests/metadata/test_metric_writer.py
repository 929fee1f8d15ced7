"""Metrics that are gathered: when they are written, with which times, and what becomes of those that cannot be."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore, Metric
from mlflow_core.metadata.metric_writer import MetricTuple, MetricWriter
from tests.metadata.conftest import NOON, HandClock, refusing

LONG_S = 600.0
"""So long that a batch is written by nobody but the test."""


def steps_of(store: MetadataStore, run_id: str, name: str = "auc") -> list[int]:
    return [one.step for one in store.get_metrics(run_id, name)]


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.01)


def test_what_is_told_waits_until_it_is_flushed_and_keeps_the_time_at_which_it_was_told(
    store: MetadataStore, clock: HandClock
) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=LONG_S)
    writer.write({"auc": 0.6, "loss": 2}, step=0)
    clock.us += 5
    writer.write([Metric("auc", 0.7, 1, low=0.6, high=0.8)])
    clock.us += 5
    assert store.get_metrics(run.id) == []
    writer.flush()
    assert store.get_metrics(run.id) == [
        Metric("auc", 0.6, 0, at_us=NOON),
        Metric("auc", 0.7, 1, 0.6, 0.8, NOON + 5),
        Metric("loss", 2.0, 0, at_us=NOON),
    ]
    assert store.latest_metrics([run.id])[run.id]["auc"].value == 0.7


def test_without_a_flush_all_is_written_after_the_delay(store: MetadataStore) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=0.05)
    for turn in range(2):
        for step in range(10 * turn, 10 * turn + 10):
            writer.write({"auc": 0.5}, step=step)
        wait_for(lambda turn=turn: len(steps_of(store, run.id)) == 10 * turn + 10)


def test_no_more_wait_than_may(store: MetadataStore) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=LONG_S, at_most=6)
    for step in range(5):
        writer.write({"auc": 0.5, "loss": 0.1}, step=step)
    assert steps_of(store, run.id) == [0, 1, 2]
    writer.flush()
    assert steps_of(store, run.id) == [0, 1, 2, 3, 4]


def test_of_what_is_told_twice_the_later_stays_in_one_batch_and_in_two(store: MetadataStore) -> None:
    run = store.create_run("late")
    with store.metric_writer(run.id, delay_s=LONG_S) as writer:
        for value in (0.1, 0.2):
            writer.write({"auc": value}, step=3)
        writer.flush()
        writer.write({"auc": 0.3}, step=3)
        writer.write({"auc": 0.4}, step=2)
    assert [(one.step, one.value) for one in store.get_metrics(run.id)] == [(2, 0.4), (3, 0.3)]
    assert store.latest_metrics([run.id])[run.id]["auc"].value == 0.3


def test_what_is_no_metric_is_refused_where_it_is_told_and_nothing_of_it_is_taken(
    store: MetadataStore,
) -> None:
    run = store.create_run("late")
    with store.metric_writer(run.id, delay_s=LONG_S) as writer:
        writer.write({"auc": 0.5}, step=0)
        with pytest.raises(MetadataError, match='metric "loss" is None'):
            writer.write({"auc": 0.6, "loss": None}, step=1)  # type: ignore[dict-item]
        with pytest.raises(MetadataError, match=r'"auc" has the step 1\.5.*whole numbers'):
            writer.write({"auc": 0.6}, step=1.5)  # type: ignore[arg-type]
    assert steps_of(store, run.id) == [0]


def test_an_error_of_the_block_leaves_nothing_unwritten_and_is_what_the_caller_hears(
    store: MetadataStore, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = store.create_run("late")
    with pytest.raises(ZeroDivisionError), store.metric_writer(run.id, delay_s=LONG_S) as writer:
        writer.write({"auc": 0.5}, step=0)
        raise ZeroDivisionError
    assert steps_of(store, run.id) == [0]
    with (
        refusing(url, "mlcore_metrics", "no more"),
        caplog.at_level(logging.WARNING),
        pytest.raises(ZeroDivisionError),
        store.metric_writer(run.id, delay_s=LONG_S) as writer,
    ):
        writer.write({"auc": 0.5}, step=1)
        raise ZeroDivisionError
    assert "metrics were not written" in caplog.text


def test_a_batch_that_cannot_be_written_is_told_and_waits_until_it_can(
    store: MetadataStore, url: str
) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=LONG_S, at_most=2)
    with refusing(url, "mlcore_metrics", "no more"):
        writer.write({"auc": 0.5}, step=0)
        for step in (1, 2):
            with pytest.raises(MetadataError, match="no more"):
                writer.write({"auc": 0.5}, step=step)
        with pytest.raises(MetadataError, match="no more"):
            writer.flush()
    assert steps_of(store, run.id) == []
    writer.flush()
    assert steps_of(store, run.id) == [0, 1, 2]


def test_a_failure_that_nobody_saw_is_told_to_who_tells_next(
    store: MetadataStore, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=0.01)
    with refusing(url, "mlcore_metrics", "no more"):
        with caplog.at_level(logging.WARNING):
            writer.write({"auc": 0.5}, step=0)
            wait_for(lambda: "metrics wait to be written" in caplog.text)
        with pytest.raises(MetadataError, match="no more"):
            writer.write({"auc": 0.5}, step=1)
    writer.write({"auc": 0.5}, step=2)
    assert steps_of(store, run.id) == [0, 1, 2]


def test_what_is_dropped_is_never_written_and_what_is_told_after_it_is(store: MetadataStore) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=0.05)
    writer.write({"auc": 0.5}, step=0)
    writer.drop()
    writer.write({"auc": 0.5}, step=1)
    wait_for(lambda: steps_of(store, run.id) != [])
    writer.flush()
    assert steps_of(store, run.id) == [1]


def test_what_no_database_takes_is_refused_at_once_and_keeps_nothing_else_from_it(
    store: MetadataStore,
) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=LONG_S)
    writer.write({"auc": 0.5}, step=0)
    for bad in (
        Metric("loss", 1.0, 2**63),
        Metric("loss", 1.0, -(2**63) - 1),
        Metric("loss", 1.0, 0, at_us=2**63),
        Metric("loss", 10**400),
        Metric("loss", 1.0, low="much"),  # type: ignore[arg-type]
        Metric("a\0b", 1.0),
        Metric("\udcff", 1.0),
        Metric(None, 1.0),  # type: ignore[arg-type]
    ):
        with pytest.raises(MetadataError, match="metric"):
            writer.write([Metric("auc", 0.7, 1), bad])
    writer.write({"loss": 0.1}, step=2**63 - 1)
    writer.flush()
    assert steps_of(store, run.id) == [0]
    assert steps_of(store, run.id, "loss") == [2**63 - 1]


def test_an_interrupt_in_the_middle_of_a_flush_loses_nothing(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=LONG_S)
    writer.write({"auc": 0.5}, step=0)
    cancel = threading.Timer.cancel

    def interrupted(timer: threading.Timer) -> None:
        cancel(timer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Timer, "cancel", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    writer.flush()
    assert steps_of(store, run.id) == [0]


def test_a_batch_that_fails_while_it_is_dropped_does_not_come_back() -> None:
    begun, go, written = threading.Event(), threading.Event(), list[MetricTuple]()

    def write(rows: list[MetricTuple]) -> None:
        if not go.is_set():
            begun.set()
            assert go.wait(20)
            raise MetadataError("no more")
        written.extend(rows)

    def rows_of(_told: object, step: int | None) -> list[MetricTuple]:
        return [("run", "auc", step or 0, 0.5, None, None, 0)]

    def flush() -> None:
        with pytest.raises(MetadataError, match="no more"):
            writer.flush()

    writer = MetricWriter(rows_of, write, delay_s=LONG_S, at_most=1_000)
    writer.write({"auc": 0.5}, step=0)
    flushing = threading.Thread(target=flush)
    dropping = threading.Thread(target=writer.drop)
    flushing.start()
    assert begun.wait(20)
    dropping.start()
    dropping.join(0.2)  # by then it has either dropped too early or is waiting
    go.set()
    for one in (flushing, dropping):
        one.join()
    writer.write({"auc": 0.5}, step=1)
    writer.flush()
    assert [row[2] for row in written] == [1]


def test_threads_that_share_one_lose_nothing(store: MetadataStore) -> None:
    run = store.create_run("late")
    writer = store.metric_writer(run.id, delay_s=0.001, at_most=7)
    threads, each = 8, 50

    def tell(number: int) -> None:
        for step in range(each):
            writer.write({f"m{number}": step / each}, step=step)

    running = [threading.Thread(target=tell, args=(number,)) for number in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    writer.flush()
    for number in range(threads):
        assert steps_of(store, run.id, f"m{number}") == list(range(each))
        assert store.latest_metrics([run.id])[run.id][f"m{number}"].step == each - 1
