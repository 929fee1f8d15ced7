"""What a search found: the best settings as a trainer, every trial, and which dimensions mattered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_core.spec.trainer import Trainer
from mlflow_core.train.search.recorder import StudyFacts, Trial

if TYPE_CHECKING:
    import optuna

__all__ = ["SearchResult", "importance_of"]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        study: What was searched.
        trainer: The trainer with the best trial's settings.
        asked: How many trials the search has.
        best: The best trial that keeps all conditions.
        trials: Its trials by number, those of earlier drivers too.
        importance: Share of each dimension in how good the best trials are, by optuna (PED-ANOVA, Watanabe et al.
            2023); empty where too few trials reached their end.
        notes: What a person should know, a sentence each.
        seconds: How long this call took.
    """

    study: StudyFacts
    trainer: Trainer
    asked: int
    best: Trial
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]
    notes: tuple[str, ...]
    seconds: float

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def left(self) -> int:
        """How many trials have not ended, because the time was up."""
        return self.asked - sum(trial.state != "running" for trial in self.trials)

    def describe(self) -> str:
        """The result as text for a terminal."""
        best, study = self.best, self.study
        lines = [
            f'study "{study.name}": {len(self.trials)} trials, {self.count("succeeded")} to the end, '
            f"{self.count('pruned')} ended early, {self.count('failed')} failed",
            f"best: trial {best.number}, {study.metric} {best.value:.6g} "
            f"({'greater' if study.direction == 'maximize' else 'smaller'} is better)",
        ]
        lines += [f"  {name} = {_text(value)}" for name, value in sorted(best.settings.items())]
        if self.importance:
            shares = sorted(self.importance.items(), key=lambda one: -one[1])
            lines.append("importance: " + ", ".join(f"{name} {share:.0%}" for name, share in shares))
        lines += ["", *_table(self.trials)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return {
            "study": {
                **vars(self.study),
                "space": dict(self.study.space),
                "sampler": dict(self.study.sampler),
            },
            "trainer": self.trainer.model_dump(mode="json"),
            "asked": self.asked,
            "best": self.best.number,
            "trials": [trial.to_json() for trial in self.trials],
            "importance": dict(self.importance),
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def importance_of(study: optuna.Study) -> dict[str, float]:
    """Each dimension's share, which add up to 1; empty where too few trials reached their end to tell."""
    import optuna
    from optuna.trial import TrialState as State

    if len(study.get_trials(deepcopy=False, states=(State.COMPLETE,))) < 4:
        return {}
    with warnings.catch_warnings():
        # "Target and region quantiles select the same trials": then all shares are equal, which is what it says.
        warnings.simplefilter("ignore", UserWarning)
        shares = optuna.importance.get_param_importances(study)
    return {name: float(share) for name, share in shares.items()}


def _table(trials: tuple[Trial, ...]) -> list[str]:
    names = sorted({name for trial in trials for name in trial.settings})
    rows = [["trial", "state", "value", "seconds", *names, ""]]
    for trial in trials:
        rows.append(
            [
                str(trial.number),
                trial.state,
                "" if trial.value is None else f"{trial.value:.6g}",
                f"{trial.facts['seconds']:.1f}" if "seconds" in trial.facts else "",
                *(_text(trial.settings.get(name, "")) for name in names),
                trial.reason or "",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
