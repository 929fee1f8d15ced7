"""Whoever mirrors a study: told what it is, and of each trial once it has ended.

Training knows no database but the study's own. ``workflow`` has the recorder that writes studies and trials to the
metadata store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = ["NullStudyRecorder", "StudyFacts", "StudyRecorder", "Trial", "TrialState"]

TrialState = Literal["running", "succeeded", "pruned", "failed"]


@dataclass(frozen=True)
class StudyFacts:
    """What a study is.

    Args:
        name: Its name.
        metric: What trials are judged by.
        direction: ``minimize`` or ``maximize``.
        space: JSON-able dimension by name.
        sampler: JSON-able facts of how trials are chosen and ended early.
        seed: Seed of the proposals.
    """

    name: str
    metric: str
    direction: str
    space: Mapping[str, Any]
    sampler: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Trial:
    """One trial.

    Args:
        number: Its number in the study, from 0, which it keeps when it is tried again.
        state: Whether it reached an end, was ended early, or failed.
        settings: Value by name of the dimension.
        value: What it reached; of one that was ended early, the last value that was looked at.
        values: Value after each step that was looked at.
        facts: Numbers: ``seconds``, ``steps``, metrics that conditions ask for.
        excess: By how much each condition is missed: at most 0 where it is kept.
        reason: Why it failed, or was ended early.
        worker: Where it ran.
        attempts: How often it was started: more than once if its worker or its driver was lost.
        started_us: When it was proposed, microseconds since epoch, UTC.
        ended_us: When it ended; None while it runs.
    """

    number: int
    state: TrialState
    settings: Mapping[str, Any]
    value: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    excess: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    worker: str | None = None
    attempts: int = 1
    started_us: int | None = None
    ended_us: int | None = None

    @property
    def feasible(self) -> bool:
        """Whether it keeps all conditions."""
        return all(one <= 0 for one in self.excess.values())

    def to_json(self) -> dict[str, Any]:
        """Its facts as JSON-able values."""
        return {
            **vars(self),
            "settings": dict(self.settings),
            "values": {str(step): value for step, value in self.values.items()},
            "facts": dict(self.facts),
            "excess": dict(self.excess),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Trial:
        """Read a trial back from what ``to_json`` gave.

        Args:
            told: Its facts.

        Example:
            >>> trial = Trial(0, "succeeded", {"max_depth": 3}, 0.5, values={4: 0.6})
            >>> Trial.from_json(trial.to_json()) == trial
            True
        """
        return cls(**{**told, "values": {int(step): value for step, value in told["values"].items()}})


@runtime_checkable
class StudyRecorder(Protocol):
    """Whoever keeps studies and their finished trials."""

    def study(self, study: StudyFacts) -> None:
        """A study begins, or goes on."""
        ...

    def trial(self, trial: Trial) -> None:
        """A trial has ended.

        Called for each trial at least once, in order of their ends; again for the last one if the driver was killed
        in between: ``trial.number`` tells.
        """
        ...


class NullStudyRecorder:
    """Keeps nothing."""

    def study(self, study: StudyFacts) -> None:
        """Forget the study."""

    def trial(self, trial: Trial) -> None:
        """Forget the trial."""
