"""The benchmark of training: two bare loops run beside each other in every way, learn alike, and the limit is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from benchmarks.train import bare
from benchmarks.train.bare import APART, DISTRIBUTED, MEETING, Meeting
from benchmarks.train.data import training_set
from benchmarks.train.stepped import Case, Runs, cases, limited
from benchmarks.train.stepping import last_losses

ROWS = 16_000


def figures(rows_per_second: float) -> dict[str, float]:
    return {"rows_per_second": rows_per_second, "us_a_row": 1e6 / rows_per_second}


def test_two_loops_beside_each_other_learn_in_each_way_what_they_are_to_learn(tmp_path: Path) -> None:
    case = Case("MLP", cases(small=True)[0].trainer, ROWS, 12)
    runs = Runs(case, training_set(tmp_path / "data", ROWS, 12), tmp_path)

    alone = runs("bare", threads=1)
    apart, meeting, peer = (runs.beside(way) for way in (APART, MEETING, DISTRIBUTED))

    for one in (alone, apart, meeting, peer):
        assert one["rows_per_second"] > 0
        assert one["us_a_row"] > 0
    # Two that share each batch take the same steps as one alone; those that share nothing say no loss.
    assert peer["losses"].keys() == alone["losses"].keys()
    mine, theirs = last_losses(alone["losses"], peer["losses"])
    assert mine == pytest.approx(theirs, rel=1e-4)
    assert "losses" not in apart
    assert "losses" not in meeting


def test_what_waits_for_another_takes_each_step_after_it(tmp_path: Path) -> None:
    one, other = (Meeting(tmp_path / "meeting", index) for index in range(2))
    steps: list[int] = []

    def goes() -> None:
        for step in range(50):
            steps.append(step)
            one()

    going = threading.Thread(target=goes)
    going.start()
    for step in range(50):
        assert max(steps, default=0) <= step
        other()
        assert steps[step] == step
    going.join()


def test_a_loop_whose_other_is_lost_ends_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare, "PATIENCE_S", 0.1)
    with pytest.raises(TimeoutError, match=r"did not come within 0\.1 s"):
        Meeting(tmp_path / "meeting", 0)()


@pytest.mark.parametrize(("limit", "told"), [(880.0, "0.88, so 0.9 is out of reach"), (910.0, "0.91")])
def test_the_row_of_the_limit_says_whether_the_goal_can_be_reached(limit: float, told: str) -> None:
    row = limited("MLP: two workers", figures(800), figures(limit), figures(1000))

    assert row.note.endswith(f"the limit over two independent processes: {told}")
    assert row.ratio == pytest.approx(800 / limit)
    assert (row.goal, row.holds, row.equal) == (None, None, None)
