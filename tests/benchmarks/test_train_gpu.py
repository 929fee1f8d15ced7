"""The benchmark of cards: every piece of it runs here on the processor, and without a card it claims nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.results import RESULTS
from benchmarks.train.data import training_set
from benchmarks.train.gpu.card import limits, read
from benchmarks.train.gpu.measured import Scale, flops_of_a_row, measure
from mlflow_core.spec import MLP

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_and_leaves_no_results() -> None:
    before = {path.name: path.stat().st_mtime_ns for path in RESULTS.glob("*.json")}

    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.train.gpu"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "no card" in ran.stdout
    assert "nothing is claimed" in ran.stdout
    assert {path.name: path.stat().st_mtime_ns for path in RESULTS.glob("*.json")} == before


def test_every_piece_of_it_runs_on_the_processor(tmp_path: Path) -> None:
    rows = measure(tmp_path, Scale(rows=1600, batch=400, boosted=4000, features=12), "cpu")

    cases = {row.case.partition(",")[0] for row in rows}
    assert cases == {"MLP", "FT-Transformer", "GRU", "XGBoost"}
    assert all(row.ours is not None and row.ours > 0 for row in rows)
    assert all(row.peer_value for row in rows)
    assert next(row for row in rows if row.case.startswith("XGBoost")).equal
    assert json.dumps([row.note for row in rows])


def test_the_limits_are_of_the_right_size() -> None:
    found = limits("cpu")

    assert 1e8 < found.flops < 1e14
    assert 1e7 < found.bytes < 1e12


def test_operations_of_a_row_are_those_of_its_matrix_products_forward_and_backward(tmp_path: Path) -> None:
    data = training_set(tmp_path, 800, 12)

    counted = flops_of_a_row(MLP(hidden=(32,), numbers="plain"), data)

    # Forward two operations a weight; backward two more for the weights' gradients, and two for the inputs' but in
    # the first layer, which needs none.
    assert counted == 2 * 2 * 24 * 32 + 3 * 2 * 32


def test_what_the_drivers_tool_writes_is_read_and_a_line_cut_off_is_left_out() -> None:
    busy = read("97, 1024\n 88, 2048\n[N/A], 3\n9")

    assert busy.percent == (97.0, 88.0)
    assert busy.mib == (1024.0, 2048.0)
    assert busy.usual == 92.5


def test_nothing_looked_at_is_no_figure() -> None:
    assert read("").usual is None
