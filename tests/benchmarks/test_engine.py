"""The engine's benchmark at sizes that show equality only: a ratio is worth nothing where the values differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine.comparison import LIMITS, bounded, compared, reachable
from benchmarks.engine.data import latest_world
from benchmarks.engine.hard import PEERS
from benchmarks.engine.job import Job, Result
from benchmarks.engine.latest import slope_rows
from benchmarks.engine.measured import measure, run_here
from benchmarks.engine.small import small_rows
from benchmarks.results import Row, markdown, report


# ibis calls DuckDB by a name that DuckDB 2 gives up.
@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_every_peer_agrees_on_benign_data_and_only_ours_is_right_on_all_of_the_hard(tmp_path: Path) -> None:
    rows = small_rows(tmp_path)
    compared = {(row.case, row.peer): row.equal for row in rows if row.metric == "wall s"}
    for limit in LIMITS:
        assert compared.pop(("latest, small", limit)) is None
    assert len(compared) == 15
    assert set(compared.values()) == {True}
    counted = [row for row in rows if row.metric == "wrong or lost"]
    assert {row.ours for row in counted} == {0.0}
    wrong = {peer: sum(row.peer_value for row in counted if row.peer == peer) for peer in PEERS}
    assert all(wrong.values()), wrong


def test_a_wrong_value_or_a_lost_row_takes_no_ratio(tmp_path: Path) -> None:
    job = latest_world(tmp_path / "world", 1_000, 100, 10, seed=1)
    other = latest_world(tmp_path / "other", 1_000, 100, 10, seed=2)
    fewer = latest_world(tmp_path / "fewer", 1_000, 99, 10, seed=1)
    mine, *theirs = (run_here("polars", [one])[0] for one in (job, other, fewer))
    assert compared("case", job, mine, "itself", mine).equal
    for result in theirs:
        row = compared("case", job, mine, "another", result, goal=1.0)
        assert (row.equal, row.ratio, row.holds) == (False, None, False)


def test_a_contestant_is_measured_in_a_process_of_its_own_and_ended_when_it_takes_too_long(
    tmp_path: Path,
) -> None:
    job = latest_world(tmp_path / "world", 1_000, 100, 10, seed=1)
    result = measure("polars", job, small=job, runs=2)
    assert result.done
    assert result.seconds["cold"] > 0
    assert result.peak > 0
    # It would never come to its warm runs.
    ended = measure("polars", job, phases=("cold", "warm"), runs=1_000_000, seconds=1e9, within=1.0)
    assert (ended.outcome, ended.done, ended.timed_out) == ("> 1 s", False, True)
    repeated = measure("polars", job, runs=1_000_000, seconds=1e9, within=1.0)
    assert repeated.done
    assert compared("case", job, result, "polars", repeated).equal


def test_a_contestant_that_fails_is_told_with_its_own_last_words(tmp_path: Path) -> None:
    missing = Job(sources=(), rows=str(tmp_path / "nowhere.parquet"), scratch=str(tmp_path))
    result = measure("polars", missing)
    assert result.outcome.startswith("failed: ")
    assert "nowhere.parquet" in result.outcome


def test_a_peer_ended_by_its_time_out_gives_a_ratio_that_is_at_least_that(tmp_path: Path) -> None:
    job = latest_world(tmp_path / "world", 1_000, 100, 10, seed=1)
    ours = Result("done", {"cold": 2.0}, 0, 0, 0, tmp_path)
    row = compared("case", job, ours, "slow", Result("> 60 s", {}, 0, 0, 0, tmp_path, 60.0), goal=8.0)
    assert (row.peer_value, row.ratio, row.holds, row.note) == (60.0, 30.0, True, "slow: > 60 s")
    killed = compared("case", job, ours, "large", Result("killed at 12 GiB", {}, 0, 0, 0, tmp_path, 60.0))
    assert (killed.peer_value, killed.ratio, killed.note) == (None, None, "large: killed at 12 GiB")


@pytest.mark.parametrize(("limit", "note"), [(5.0, ""), (10.0, "2.5 is out of reach")])
def test_the_row_of_a_limit_says_whether_the_goal_can_be_reached(
    limit: float, note: str, tmp_path: Path
) -> None:
    least, theirs = (Result("done", {"cold": taken}, 0, 0, 0, tmp_path) for taken in (limit, 20.0))
    row = reachable("case", "the limit", least, "polars", theirs, 2.5)
    assert (row.case, row.ratio, row.goal, row.note) == ("case, the limit", 20.0 / limit, None, note)


def test_the_slope_is_that_of_the_logarithms_and_a_bound_is_reached_from_below() -> None:
    (row,) = slope_rows(
        {"event, cold": {1_000_000: 1.0, 10_000_000: 5.0, 100_000_000: 25.0}, "one": {1: 1.0}}
    )
    assert row.ours == pytest.approx(np.log10(5.0))
    assert (row.peer_value, row.holds) == (1.0, True)
    assert bounded("case", "GiB a worker", 1.5, "the bound", 1.0).holds is False


def test_results_are_rows_with_the_same_fields_for_every_benchmark(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("benchmarks.results.RESULTS", tmp_path)
    file = report("made", [Row("case", "s", 1.0, "peer", 2.0, 2.0, goal=1.5, holds=True, equal=True)])
    assert file.read_text().count('"holds": true') == 1
    assert "1.5 holds" in capsys.readouterr().out
    assert markdown("made").endswith("| case | s | 1 | peer | 2 | 2 | 1.5 holds | yes |  |")
