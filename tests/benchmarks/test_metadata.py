"""The metadata benchmark's own side: what it reads back is what was given, and its answers say what a list says.

MLflow's side runs in an environment that is made over the network, so it is not started here; ``make bench-metadata``
compares the digests of both.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.metadata.data import FILTER, given_run, given_runs, pair
from benchmarks.metadata.ours import Ours
from benchmarks.metadata.side import digest

COUNT, STEPS = 120, 3


@pytest.fixture
def ours(tmp_path: Path) -> Ours:
    return Ours(tmp_path / "store.db")


def last(number: int) -> list[object]:
    run = given_run(number, STEPS)
    return [run.pipeline, dict(sorted(run.params.items())), dict(sorted(run.steps[-1].items()))]


@pytest.mark.parametrize("way", ["write_told", "write_steps", "write_batch"])
def test_a_run_is_read_back_as_it_was_given_each_way(ours: Ours, way: str) -> None:
    run = given_run(7, 4)
    found = ours.read(getattr(ours, way)(run))
    assert found["params"] == run.params
    assert found["metrics"] == {
        name: [(step, one[name]) for step, one in enumerate(run.steps)] for name in run.steps[0]
    }


def test_every_question_finds_what_a_loop_over_all_runs_finds(ours: Ours) -> None:
    ours.fill(COUNT, STEPS)
    everything = [run for batch in given_runs(COUNT, STEPS, batch=50) for run in batch]
    assert ours.newest() == [last(number) for number in range(COUNT - 1, COUNT - 101, -1)]
    assert ours.of_pipeline() == [
        last(run.number) for run in reversed(everything) if run.pipeline == "late-3"
    ]
    metric, above, param, value = FILTER
    held = [run for run in everything if run.steps[-1][metric] > above and run.params[param] == value]
    held.sort(key=lambda run: -run.steps[-1][metric])
    assert held
    assert ours.filtered() == [last(run.number) for run in held]
    first, second = (given_run(number, STEPS) for number in pair(COUNT))
    assert [found["params"] for _, found in ours.compared(COUNT)] == [first.params, second.params]


def test_a_digest_tells_values_apart_and_nothing_else() -> None:
    assert digest([{"a": 1.0, "b": (1, 2)}]) == digest([{"b": [1, 2], "a": 1.0}])
    assert digest([0.1]) != digest([0.1 + 1e-16 * 2])
