"""The engine's benchmark at sizes that show equality only: a ratio is worth nothing where the values differ."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine.__main__ import latest_values, windows
from benchmarks.results import Row, report


def test_every_peer_agrees_with_ours_on_benign_data(tmp_path: Path) -> None:
    rows = [
        *latest_values(tmp_path / "latest", n_events=3_000, n_rows=300),
        *windows(tmp_path / "windows", 3_000, 300),
    ]
    assert {row.peer: row.equal for row in rows} == {
        "pandas merge_asof": True,
        "DuckDB ASOF": True,
        "DuckDB range join": True,
    }


def test_results_are_rows_with_the_same_fields_for_every_benchmark(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("benchmarks.results.RESULTS", tmp_path)
    file = report("made", [Row("case", "s", 1.0, "peer", 2.0, 2.0, goal=1.5, holds=True, equal=True)])
    assert file.read_text().count('"holds": true') == 1
    assert "1.5 holds" in capsys.readouterr().out
