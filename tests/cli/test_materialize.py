"""``mlcore materialize`` at the terminal: what it tells of runs of changes, of completed ones and of those that failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.cli.materialize_report import ends_of
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.sqlite import SqliteBackend
from tests.serve.shop import mlcore, prepared

ELEVEN = ("materialize", "--to", "2024-01-10T11:00Z", "--clock", "2024-01-10T11:10Z")
TWELVE = ("materialize", "--to", "2024-01-10T12:00Z", "--clock", "2024-01-10T12:10Z")
ELEVEN_US = 1_704_884_400_000_000
ALWAYS = {
    *(
        "view",
        "boundary",
        "boundary_us",
        "since",
        "why_all",
        "completes",
        "rows",
        "written",
        "skipped",
        "sent",
    ),
    *("bytes", "nulls", "events", "dropped_keys", "dropped_times", "lag_us", "lag", "missed", "late"),
    *("seconds", "rows_per_s", "half_new", "error", "started_us", "ended_us", "fingerprint"),
}


def reports(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {report["view"]: report for report in json.loads(capsys.readouterr().out)["views"]}


def test_a_run_tells_what_it_wrote_and_what_it_did_not_have_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = prepared(tmp_path, "telling_shop")
    capsys.readouterr()

    assert mlcore(root, *ELEVEN, "--json") == 0
    spending = reports(capsys)["spending"]
    assert set(spending) == ALWAYS
    assert (spending["since"], spending["why_all"]) == ("2024-01-10T10:00:00Z", None)
    assert (spending["rows"], spending["skipped"], spending["sent"]) == (3, 3, 0)
    assert (spending["lag"], spending["error"], spending["half_new"]) == ("10m", None, False)

    assert mlcore(root, *ELEVEN, "--full", "--json") == 0
    again = reports(capsys)["spending"]
    assert (again["why_all"], again["skipped"], again["sent"]) == ("it was asked for", 0, 3)
    assert mlcore(root, *ELEVEN, "--full", "--from", "2024-01-10") == 2
    assert "Give one of them" in capsys.readouterr().err


def test_a_run_that_did_not_finish_is_completed_and_one_that_fails_says_that_the_view_is_half_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = prepared(tmp_path, "unlucky_shop")
    store = SqliteBackend(next((root / "unlucky_shop").rglob("online.db")), "shop")
    write, count = SqliteBackend.write, 0

    def failing(self: SqliteBackend, table: OnlineTable, rows: Any) -> int:
        nonlocal count
        count += table.view == "spending" and not rows[0][0].startswith(b"\x00")
        if count > 2:
            raise StoreError("the disk is gone")
        return write(self, table, rows)

    with monkeypatch.context() as patch:
        patch.setattr("mlflow_core.engine.views.written.ROWS_A_WRITE", 1)
        patch.setattr(SqliteBackend, "write", failing)
        capsys.readouterr()
        assert mlcore(root, *ELEVEN, "--full") == 1
    told = capsys.readouterr()
    assert "spending: failed after 2 rows were written. It is half new until the next run" in told.out
    assert "the disk is gone" in told.err
    assert store.unfinished() == {"spending": ELEVEN_US}

    assert mlcore(root, *TWELVE) == 0
    told = capsys.readouterr()
    assert "spending: completed a run to 2024-01-10T11:00:00Z that had not finished." in told.out
    assert store.unfinished() == {}
    store.close()


def test_a_view_is_not_late_because_another_one_of_the_call_took_long() -> None:
    assert ends_of([1.0, 3600.0], 5, 3_600_000_005) == [1_000_005, 3_600_000_005]
    assert ends_of([1.0, 3600.0], 5, 5) == [5, 5]
    assert ends_of([], 5, 6) == []
