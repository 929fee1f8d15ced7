"""A study while it runs: what is tried next, what is known of each trial, all of it durable before it is acted on.

Optuna's storage is the one truth. A trial that runs when its driver dies stays in it as running; the next driver
takes it up again under its own number, with its own settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mlflow_core.errors import TrainError
from mlflow_core.spec.search import Search
from mlflow_core.spec.trainer import Trainer
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.identity import settings_of
from mlflow_core.train.search.conditions import Condition
from mlflow_core.train.search.judging import Judge
from mlflow_core.train.search.proposing import Looks, pruner_of, sampler_of
from mlflow_core.train.search.recorder import StudyFacts, StudyRecorder, Trial, TrialState
from mlflow_core.train.search.space import Space

if TYPE_CHECKING:
    import optuna

__all__ = ["Asked", "Plan", "Study", "begin", "quiet"]

_STATES: Mapping[str, TrialState] = {
    "RUNNING": "running",
    "WAITING": "running",
    "COMPLETE": "succeeded",
    "PRUNED": "pruned",
    "FAIL": "failed",
}
_MAY_CHANGE = ("trials", "parallel", "within", "start")
_NO_PART = ("workers", "recovery", "checkpoint_every")  # change where a trainer runs, not what it learns


@dataclass(frozen=True)
class Plan:
    """A search that was checked: what it means, still without doing anything.

    Args:
        trainer: The trainer as written.
        search: The search as written.
        space: Its dimensions.
        judge: What decides.
        conditions: What trials must keep.
        also: Metrics that the conditions ask for.
        looks: When trials are looked at.
    """

    trainer: Trainer
    search: Search
    space: Space
    judge: Judge
    conditions: tuple[Condition, ...]
    also: tuple[str, ...]
    looks: Looks

    def facts(self, name: str) -> StudyFacts:
        """What the study of this plan is."""
        search = self.search
        return StudyFacts(
            name,
            self.judge.name,
            self.judge.direction,
            self.space.to_json(),
            {"sampler": search.sampler, "pruner": search.pruner},
            search.seed,
        )


@dataclass
class Asked:
    """A trial that is to run.

    Attributes:
        trial: Optuna's handle.
        settings: What it proposes.
        reported: Steps whose values are stored.
        attempts: How often it was started before.
    """

    trial: optuna.Trial
    settings: dict[str, Any]
    reported: set[int]
    attempts: int

    @property
    def number(self) -> int:
        """Its number in the study."""
        return int(self.trial.number)


class Study:
    """A study on its storage; see ``begin``."""

    def __init__(self, study: optuna.Study, plan: Plan, recorder: StudyRecorder) -> None:
        self._study, self._plan, self._recorder = study, plan, recorder
        self._left = self._unfinished()
        self._told = set(study.user_attrs.get("told", []))
        for trial in self.trials():
            if trial.state != "running" and trial.number not in self._told:
                self._tell(trial)

    @property
    def stored(self) -> optuna.Study:
        """Optuna's own study."""
        return self._study

    def trials(self) -> tuple[Trial, ...]:
        """The trials of the search that have begun, by number; not those that a longer search ran after them."""
        from optuna.trial import TrialState as State

        begun = (one for one in self._study.get_trials(deepcopy=False) if one.state != State.WAITING)
        return tuple(_trial(one) for one in begun if one.number < self._plan.search.trials)

    @property
    def left(self) -> int:
        """How many trials of the search have not ended."""
        return self._plan.search.trials - sum(one.state != "running" for one in self.trials())

    def ask(self) -> Asked | None:
        """The next trial: one that was begun and never ended, else a new one; None once all have been."""
        import optuna

        if self._left:
            return self._ask(optuna.Trial(self._study, self._left.pop(0)))
        began = self._study.get_trials(deepcopy=False)
        waiting = [one.number for one in began if one.state == optuna.trial.TrialState.WAITING]
        if len(began) - len(waiting) >= self._plan.search.trials:
            return None
        self._study.sampler = sampler_of(self._plan.search, min(waiting, default=len(began)))
        return self._ask(self._study.ask())

    def equal_to(self, asked: Asked) -> Trial | None:
        """The trial with the very same settings that has reached its end, if there is one."""
        for one in self.trials():
            if one.state == "succeeded" and one.settings == asked.settings:
                return one
        return None

    def look(self, asked: Asked, step: int, value: float) -> bool:
        """Store a value that was told, and say whether the trial is to end early."""
        if step in asked.reported:
            return False
        asked.reported.add(step)
        asked.trial.report(value, step)
        return bool(asked.trial.should_prune())

    def succeed(
        self, asked: Asked, value: float, facts: Mapping[str, Any], excess: Mapping[str, float]
    ) -> None:
        """End a trial with what it reached."""
        self._end(asked, "COMPLETE", value, facts, excess)

    def prune(
        self, asked: Asked, facts: Mapping[str, Any], excess: Mapping[str, float] | None = None
    ) -> None:
        """End a trial early."""
        self._end(asked, "PRUNED", None, facts, excess or {})

    def fail(self, asked: Asked, facts: Mapping[str, Any]) -> None:
        """End a trial that failed; the reason is among the facts."""
        self._end(asked, "FAIL", None, facts, {})

    def begin_attempt(self, asked: Asked) -> None:
        """Write down that a trial is started, once more if it was before."""
        asked.trial.set_user_attr("attempts", asked.attempts + 1)

    def _ask(self, trial: optuna.Trial) -> Asked:
        # A driver may die between two of a trial's settings, so none depends on how many were drawn before it.
        search, number = self._plan.search, trial.number
        self._study.sampler = sampler_of(search, number)
        _ = (
            trial.relative_params
        )  # those that the sampler draws together: it does so when they are first asked for

        def draw(place: int) -> None:
            self._study.sampler = sampler_of(search, number, place)

        settings = self._plan.space.suggest(trial, draw)
        known = self._study.get_trials(deepcopy=False)[trial.number]
        return Asked(trial, settings, set(known.intermediate_values), known.user_attrs.get("attempts", 0))

    def _end(
        self,
        asked: Asked,
        state: str,
        value: float | None,
        facts: Mapping[str, Any],
        excess: Mapping[str, float],
    ) -> None:
        from optuna.trial import TrialState as State

        for name, fact in facts.items():
            asked.trial.set_user_attr(name, fact)
        for text, beyond in excess.items():
            if (
                text not in asked.trial.constraints
            ):  # written by a driver that died before the trial's end was
                asked.trial.set_constraint(text, beyond)
        self._study.sampler = sampler_of(self._plan.search, asked.number)
        self._study.tell(asked.trial, value, state=State[state])
        self._tell(_trial(self._study.get_trials(deepcopy=False)[asked.number]))

    def _tell(self, trial: Trial) -> None:
        self._recorder.trial(trial)
        self._told.add(trial.number)
        self._study.set_user_attr("told", sorted(self._told))

    def _unfinished(self) -> list[int]:
        from optuna.trial import TrialState as State

        running = self._study.get_trials(deepcopy=False, states=(State.RUNNING,))
        mine = [one for one in running if one.number < self._plan.search.trials]
        return [one._trial_id for one in sorted(mine, key=lambda one: one.number)]


def begin(
    storage: optuna.storages.RDBStorage, name: str, plan: Plan, data: TrainingData, recorder: StudyRecorder
) -> Study:
    """Begin a study, or go on with the one of this name.

    Raises:
        TrainError: The study of this name searches something else: names what differs.
    """
    import optuna

    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=plan.judge.direction,
        sampler=sampler_of(plan.search, 0),
        pruner=pruner_of(plan.search, plan.looks),
        load_if_exists=True,
    )
    identity = _identity(plan, data)
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
    elif differ := [part for part in identity if known.get(part) != identity[part]]:
        raise TrainError(
            f"was begun with another {' and another '.join(differ)}",
            object=f'Study "{name}"',
            hint="Give the search a new name, or put back what was changed.",
        )
    recorder.study(plan.facts(name))
    queued = {
        trial.user_attrs["start"] for trial in study.get_trials(deepcopy=False) if "start" in trial.user_attrs
    }
    for number, settings in enumerate(plan.search.start):
        if number not in queued:
            study.enqueue_trial(dict(settings), user_attrs={"start": number})
    return Study(study, plan, recorder)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep optuna from writing to the terminal what the progress tells already."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _identity(plan: Plan, data: TrainingData) -> dict[str, str]:
    """Digests of what makes trials comparable: whatever differs here makes another study."""
    search = plan.search.model_dump(mode="json")
    parts: dict[str, Any] = {name: value for name, value in search.items() if name not in _MAY_CHANGE}
    shards = {
        part: [(path.name, Path(path).stat().st_size) for path in paths]
        for part, paths in data.shards.items()
        if part != "test"
    }
    parts["data"] = [shards, data.label, data.features]
    parts["trainer"] = _learning(settings_of(plan.trainer))
    return {
        name: hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        for name, value in parts.items()
    }


def _learning(settings: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in settings.items() if name not in _NO_PART}
    inner = told.get("trainer")
    return told | {"trainer": _learning(inner)} if isinstance(inner, Mapping) else told


def _trial(frozen: optuna.trial.FrozenTrial) -> Trial:
    attributes = dict(frozen.user_attrs)
    return Trial(
        number=frozen.number,
        state=_STATES[frozen.state.name],
        settings=dict(frozen.params),
        value=frozen.value if frozen.values is not None else None,
        values=dict(sorted(frozen.intermediate_values.items())),
        facts=attributes.get("facts", {}),
        excess=dict(frozen.constraints),
        reason=attributes.get("reason"),
        worker=attributes.get("worker"),
        attempts=attributes.get("attempts", 0),
        started_us=_us(frozen.datetime_start),
        ended_us=_us(frozen.datetime_complete),
    )


def _us(time: datetime | None) -> int | None:
    """Optuna's times are this machine's, without a zone."""
    return None if time is None else int(time.timestamp() * 1e6)
