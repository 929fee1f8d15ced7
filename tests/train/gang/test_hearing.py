"""What ranks tell is heard in order, and where their last checkpoint is also after the attempt is over."""

from __future__ import annotations

import json
from collections.abc import Callable

from mlflow_core.train.gang.hearing import Hearing
from mlflow_core.train.gang.on_worker import BEGAN, ENDED, TOLD
from mlflow_core.train.gang.rank import CHECKPOINT, Told


class Scheduler:
    """A client to which nobody but the test tells anything."""

    def subscribe_topic(self, topic: str, handler: Callable[[tuple[float, str]], None]) -> None:
        self._handler = handler

    def says(self, rank: int, kind: int, name: str = "", **facts: int) -> None:
        self._handler((0.0, json.dumps([rank, kind, name, facts])))


def test_a_checkpoint_that_is_told_of_after_the_attempt_is_over_is_noted_and_passed_on_to_nobody() -> None:
    scheduler, told = Scheduler(), list[Told]()
    hearing = Hearing(scheduler, 1, 0, told.append, lambda: None)
    scheduler.says(0, BEGAN)
    scheduler.says(0, TOLD, CHECKPOINT, at=5)
    assert hearing.listen(0)
    assert (hearing.checkpoint, len(told)) == (5, 1)

    scheduler.says(0, TOLD, CHECKPOINT, at=10)
    scheduler.says(0, TOLD, "round", at=11)
    scheduler.says(0, ENDED)
    for _ in range(3):
        hearing.listen_for_ends(0)

    assert (hearing.checkpoint, hearing.ended, len(told)) == (10, {0}, 1)
