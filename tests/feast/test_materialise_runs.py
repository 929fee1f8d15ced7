"""Runs one after the other: what is written again and what is not, and that one killed at any point is completed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlflow_core.errors import SourceError
from mlflow_core.online.sqlite import SqliteBackend
from tests.feast.materialise_shop import CUSTOMERS, EARLY, HOUR, NOON, Shop, undisturbed


def test_the_second_run_writes_only_who_bought_or_whose_orders_left_the_window(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path / "shop")
    job = shop.run(NOON)
    first, second = job.report, shop.run(NOON + HOUR).report
    assert first is not None
    assert second is not None

    assert (job.why_all, first.since) == ("the online store knows of no earlier run", None)
    assert (first.rows, first.skipped, first.sunk.rows) == (CUSTOMERS, 0, CUSTOMERS)
    assert second.since == int(NOON.timestamp()) * 1_000_000
    assert second.rows == CUSTOMERS
    assert 6 <= second.sunk.rows == CUSTOMERS - second.skipped < CUSTOMERS - 3
    assert shop.read() == undisturbed(tmp_path / "other", NOON + HOUR)
    again = shop.run(NOON + HOUR).report
    assert again is not None
    assert (again.skipped, again.sunk.rows) == (CUSTOMERS, 0)


def test_a_store_that_was_emptied_and_a_view_declared_otherwise_are_given_all_entities(
    tmp_path: Path,
) -> None:
    shop = Shop.open(tmp_path / "shop")
    shop.run(NOON)
    shop.backend.drop()
    emptied = shop.run(NOON + HOUR)
    assert emptied.why_all == "the online store knows of no earlier run"
    assert emptied.written == CUSTOMERS

    shop.apply("3h")
    declared = shop.run(NOON + HOUR)
    assert declared.written == CUSTOMERS


def test_rows_that_came_too_late_are_written_though_they_cross_no_edge(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path / "shop")
    shop.run(NOON)
    shop.orders([CUSTOMERS + 1, 19], [5, 7], [NOON - 30 * HOUR, NOON - HOUR], name="1")

    late = shop.run(NOON + HOUR)

    assert late.why_all is None
    assert shop.read()["amount"][CUSTOMERS + 1] == 5
    shop.orders([CUSTOMERS + 1], [6], [NOON - 29 * HOUR], name="1")
    changed = shop.run(NOON + 2 * HOUR)
    assert changed.why_all == "the source was changed and does not say when its rows were known"
    assert shop.read()["amount"][CUSTOMERS + 1] == 6


def test_a_correction_of_the_past_is_written_at_the_same_boundary_when_all_is_asked_for(
    tmp_path: Path,
) -> None:
    shop = Shop.open(tmp_path / "shop")
    shop.orders([1, 1], [3, 4], [NOON - HOUR, NOON - 2 * HOUR + timedelta(minutes=1)])
    shop.run(NOON)
    assert shop.read()["amount_sum_2h"][1] == 7
    shop.orders([1, 1], [3, 9], [NOON - HOUR, NOON - 2 * HOUR + timedelta(minutes=1)])

    assert shop.run(NOON, "all").written == 1
    assert shop.read()["amount_sum_2h"][1] == 12


def test_from_writes_again_what_can_have_changed_since_then(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path / "shop")
    shop.run(NOON)
    shop.run(NOON + HOUR)

    since = shop.run(NOON + HOUR, "since", start=NOON - 3 * HOUR)

    assert since.report is not None
    assert since.report.since == int((NOON - 3 * HOUR).timestamp()) * 1_000_000
    assert 0 < since.report.sunk.rows < CUSTOMERS
    assert shop.read() == undisturbed(tmp_path / "other", NOON + HOUR)


KILLED_AT = [(1, "changes"), (3, "changes"), (1, "all"), (2, "all"), (5, "all"), (9, "all")]
"""Two writes of changes, or a note and seven writes of everything; and then the note that it is done."""


@pytest.mark.parametrize(
    ("at_write", "rewrite"),
    [(2, "changes"), *(pytest.param(*at, marks=pytest.mark.long) for at in KILLED_AT)],
)
def test_a_run_that_is_killed_is_seen_and_completed_by_the_next(
    tmp_path: Path, at_write: int, rewrite: str
) -> None:
    shop = Shop.open(tmp_path / "shop")
    shop.run(NOON)
    shop.killed(NOON + HOUR, at_write, rewrite)

    assert shop.backend.unfinished() == {"orders": int((NOON + HOUR).timestamp()) * 1_000_000}
    assert shop.watermark == NOON
    job = shop.run(NOON + 2 * HOUR)

    assert job.completes == int((NOON + HOUR).timestamp()) * 1_000_000
    if (
        rewrite == "changes" or at_write == 1
    ):  # the first write of a run of everything is the note that it has begun
        assert job.report is not None
        assert job.report.since == int(NOON.timestamp()) * 1_000_000
    else:
        assert job.why_all == "an earlier run that wrote all entities again did not finish"
    assert shop.backend.unfinished() == {}
    assert shop.watermark == NOON + 2 * HOUR
    assert shop.read() == undisturbed(tmp_path / "other", NOON + 2 * HOUR)


def test_a_first_run_that_is_killed_is_made_again_whole(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path / "shop")
    shop.killed(NOON, 4)

    job = shop.run(NOON)

    assert job.why_all == "the online store knows of no earlier run"
    assert shop.read() == undisturbed(tmp_path / "other", NOON)


@pytest.mark.parametrize("earlier", [(), (NOON - HOUR,)], ids=["the first run", "a later run"])
def test_what_a_killed_run_wrote_is_replaced_where_the_source_was_corrected_before_the_next(
    tmp_path: Path, earlier: tuple[datetime, ...]
) -> None:
    shop, corrected = Shop.open(tmp_path / "shop"), Shop.open(tmp_path / "corrected")
    for end in earlier:
        shop.run(end)
    shop.killed(NOON, 2)
    orders = pd.read_parquet(shop.folder / "orders" / "0.parquet")
    for one in (shop, corrected):
        one.orders(orders["customer"], orders["amount"] + 100, list(orders["happened"]))

    shop.run(NOON)
    corrected.run(NOON)

    assert shop.read() == corrected.read()


def test_a_failed_run_says_what_it_had_written_and_leaves_the_watermark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop.open(tmp_path / "shop")
    shop.run(NOON)
    write, count = SqliteBackend.write, 0

    def failing(self: SqliteBackend, *arguments: Any) -> int:
        nonlocal count
        count += 1
        if count > 2:
            raise SourceError("the third write fails")
        return write(self, *arguments)

    monkeypatch.setattr("mlflow_core.engine.views.written.ROWS_A_WRITE", 3)
    monkeypatch.setattr(SqliteBackend, "write", failing)
    with shop.store() as store:
        engine: Any = store._get_provider().batch_engine
        engine.rewrite = "changes"
        with pytest.raises(SourceError, match="third write"):
            store.materialize(EARLY, NOON + HOUR)
        [job] = engine.last_jobs

    assert job.report.sunk.rows == 6
    assert shop.watermark == NOON
    assert shop.backend.unfinished() == {"orders": job.boundary}
    monkeypatch.undo()
    assert shop.run(NOON + HOUR).completes == job.boundary
    assert shop.read() == undisturbed(tmp_path / "other", NOON + HOUR)
