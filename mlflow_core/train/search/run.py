"""Run a search: ask for settings, train with them side by side, end what does badly, tell what was found.

Proposals are made here, where the study's storage is; trainings run on the workers as programs of a pool. Whatever
happened to a trial is written down before the next one is asked for, so that a search can be killed at any moment
and run again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow_core.errors import TrainError
from mlflow_core.spec.metric import METRICS, task_of
from mlflow_core.spec.search import Search
from mlflow_core.spec.trainer import Trainer
from mlflow_core.telemetry.progress import Stage
from mlflow_core.train.context import TrainContext
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.identity import modules_of
from mlflow_core.train.pool import Ended, Pool, open_pool
from mlflow_core.train.search.conditions import conditions_of
from mlflow_core.train.search.cross_validation import FOLDS, cut_folds
from mlflow_core.train.search.judging import judge_of
from mlflow_core.train.search.proposing import check_library, looks_of
from mlflow_core.train.search.recorder import NullStudyRecorder, StudyRecorder, Trial
from mlflow_core.train.search.result import SearchResult, importance_of
from mlflow_core.train.search.space import apply_settings, space_of
from mlflow_core.train.search.storage import SCHEMA, open_storage
from mlflow_core.train.search.study import Asked, Plan, Study, begin, quiet
from mlflow_core.train.search.trial import TRIALS, Outcome, TrialProgram, with_one_rank

__all__ = ["plan_search", "run_search"]

_WAIT_S = 0.25


def plan_search(trainer: Trainer, search: Search) -> Plan:
    """Check a search against its trainer; nothing is run.

    Raises:
        SpecError: A name is unknown, or a value is not one that the trainer takes.
        TrainError: There is nothing to judge trials by, or the sampler's library is not installed.

    Example:
        >>> from mlflow_core.spec import Int, XGBoost
        >>> plan = plan_search(XGBoost(), Search(space={"max_depth": Int(2, 8)}, trials=10))
        >>> plan.facts("depth").metric, plan.facts("depth").direction
        ('logloss', 'minimize')
    """
    check_library(search)
    space = space_of(trainer, search)
    judge = judge_of(trainer, search)
    task = task_of(trainer)
    metrics = [name for name, tasks in METRICS.items() if task in tasks]
    conditions = conditions_of(search, [*space.dimensions, *_numbers(trainer)], metrics)
    used = sorted({name for one in conditions for name in one.names})
    also = tuple(name for name in used if name in metrics and name not in space.dimensions)
    return Plan(trainer, search, space, judge, conditions, also, looks_of(trainer, search))


def run_search(
    trainer: Trainer,
    search: Search,
    data: TrainingData,
    context: TrainContext,
    *,
    name: str,
    storage: str | Path,
    schema: str = SCHEMA,
    recorder: StudyRecorder | None = None,
) -> SearchResult:
    """Search a trainer's settings, or go on with the search of this name.

    With one trial at a time, the same seed gives the same trials, also if the search was killed in between. With
    several, what is proposed depends on which trials have ended by then, so their order in time matters; the seeds of
    the proposals and of the trainings are the same.

    Args:
        trainer: The trainer; its settings as written are not a trial.
        search: What is searched, and how.
        data: The training set; trials are judged on its validation part, or on folds of its training part.
        context: Where it runs: one trial a worker, or one after the other without a cluster.
        name: The study's name in the storage.
        storage: A SQLite file, or a ``postgresql://`` URL: optuna's own tables.
        schema: The schema of those tables in a PostgreSQL database.
        recorder: Who mirrors the study and its finished trials.

    Returns:
        The best settings, and as many trials as the search has; a study in which a longer search was run has more,
        which change nothing of what a shorter one finds.

    Raises:
        SpecError: A name in the search is unknown, or ill-typed.
        TrainError: No trial succeeded or kept the conditions, the study searches something else, or another process
            runs it.
    """
    began = time.monotonic()
    plan = plan_search(trainer, search)
    context.workdir.mkdir(parents=True, exist_ok=True)
    with quiet(), open_storage(storage, name, schema=schema) as opened, _cleaned(context.workdir):
        folds = (data,) if search.validation is None else cut_folds(data, search.validation, context)
        study = begin(opened, name, plan, data, recorder or NullStudyRecorder())
        run = _Run(plan, folds, context, study)
        run.until_done()
        trials = study.trials()
        best = _best(plan, name, trials)
        notes = tuple(run.notes)
        return SearchResult(
            study=plan.facts(name),
            trainer=apply_settings(trainer, best.settings),
            asked=search.trials,
            best=best,
            trials=trials,
            importance=importance_of(study.stored),
            notes=notes,
            seconds=time.monotonic() - began,
        )


@contextmanager
def _cleaned(workdir: Path) -> Iterator[None]:
    """Leave no trial's folder of a driver that was killed, and in the end no copies of rows."""
    shutil.rmtree(workdir / TRIALS, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(workdir / FOLDS, ignore_errors=True)


class _Run:
    def __init__(
        self, plan: Plan, folds: tuple[TrainingData, ...], context: TrainContext, study: Study
    ) -> None:
        self._plan, self._folds, self._context, self._study = plan, folds, context, study
        self._running: dict[int, Asked] = {}
        self._pruned: set[int] = set()
        self.notes = _notes(plan, context)

    def until_done(self) -> None:
        """Run trials until all have ended, or the time is up."""
        search, context = self._plan.search, self._context
        until = time.monotonic() + int(search.within) / 1e6 if search.within is not None else float("inf")
        done = sum(trial.state != "running" for trial in self._study.trials())
        with (
            context.progress.stage("searching settings", search.trials, "trials") as stage,
            open_pool(
                context.client,
                parallel=search.parallel,
                told=self._hear,
                threads=context.threads,
                modules=modules_of(self._plan.trainer),
            ) as pool,
        ):
            self._pool = pool
            stage.advance(done)
            more = True
            while True:
                while more and pool.free and time.monotonic() < until:
                    more = self._launch(pool, stage)
                if not (more or pool.running) or time.monotonic() >= until:
                    break
                ended = pool.wait(_WAIT_S)
                if ended is not None:
                    self._settle(ended)
                    stage.advance()
        if time.monotonic() >= until and self._study.left:
            self.notes.append(f"the time of {search.within} was up; run again to go on with the trials left")

    def _launch(self, pool: Pool, stage: Stage) -> bool:
        """Start the next trial, or settle it where nothing has to be trained; False if there is none."""
        asked = self._study.ask()
        if asked is None:
            return False
        values = _numbers(apply_settings(self._plan.trainer, asked.settings))
        excess = self._excess({**values, **_floats(asked.settings)})
        missed = [text for text, beyond in excess.items() if beyond > 0]
        twin = self._study.equal_to(asked)
        if missed:
            self._study.prune(asked, {"reason": f"its settings miss {missed[0]}"}, excess)
        elif twin is not None and twin.value is not None:
            again = {
                "facts": {**twin.facts, "seconds": 0.0},
                "reason": f"the settings of trial {twin.number}",
            }
            self._study.succeed(asked, twin.value, again, twin.excess)
        else:
            self._study.begin_attempt(asked)
            self._running[asked.number] = asked
            pool.start(asked.number, self._program(asked))
            return True
        stage.advance()
        return True

    def _program(self, asked: Asked) -> TrialProgram:
        plan, context = self._plan, self._context
        trainer = apply_settings(plan.trainer, asked.settings)
        # Matrices of folds are removed with them: no cleaning of the cache would know whose rows they hold.
        own = context.workdir / FOLDS / "cache" if plan.search.validation is not None else None
        return TrialProgram(
            trainer=with_one_rank(trainer),
            folds=self._folds,
            judge=plan.judge,
            also=plan.also,
            looks=plan.looks.at,
            workdir=context.workdir / TRIALS,
            cache=own or context.cache or context.workdir / "cache",
        )

    def _hear(self, number: int, said: Any) -> None:
        asked = self._running.get(number)
        if asked is not None and number not in self._pruned and self._study.look(asked, *said):
            self._pruned.add(number)
            self._pool.stop(number)

    def _settle(self, ended: Ended) -> None:
        asked = self._running.pop(ended.key)
        known: dict[str, Any] = {"worker": ended.worker, "attempts": asked.attempts + ended.attempts}
        values = _numbers(apply_settings(self._plan.trainer, asked.settings)) | _floats(asked.settings)
        if ended.error is not None:
            self._study.fail(asked, {**known, "reason": str(ended.error)})
            return
        outcome: Outcome | None = ended.result
        if outcome is not None and not ended.stopped:
            # Events may come late. What they would have ended is ended now, so that timing changes no trial.
            late = (step for step, value in outcome.values.items() if self._study.look(asked, step, value))
            if next(late, None) is not None:
                self._pruned.add(ended.key)
        if ended.key in self._pruned or outcome is None:
            self._pruned.discard(ended.key)
            reason = f"it did badly after step {max(asked.reported, default=0)}"
            self._study.prune(asked, {**known, "reason": reason}, self._excess(values))
            return
        facts = {**outcome.facts, "value": outcome.value}
        excess = self._excess({**facts, **values})
        self._study.succeed(asked, outcome.value, {**known, "facts": dict(outcome.facts)}, excess)

    def _excess(self, values: Mapping[str, float]) -> dict[str, float]:
        """What can be said of the conditions with these values."""
        known = values.keys()
        return {one.text: one.excess(values) for one in self._plan.conditions if one.names <= known}


def _best(plan: Plan, name: str, trials: tuple[Trial, ...]) -> Trial:
    ended = [trial for trial in trials if trial.state == "succeeded" and trial.value is not None]
    if not ended:
        reasons = [trial.reason for trial in trials if trial.reason and trial.state == "failed"]
        raise TrainError(
            f"none of {len(trials)} trials reached its end"
            + (f"; trial {trials[0].number if trials else 0} and others: {reasons[0]}" if reasons else ""),
            object=f'Study "{name}"',
            hint="What was tried is kept; run it again under another name once it is mended.",
        )
    feasible = [trial for trial in ended if trial.feasible]
    if not feasible:
        text, least = min(
            (
                (text, trial.excess[text])
                for trial in ended
                for text in trial.excess
                if trial.excess[text] > 0
            ),
            key=lambda one: one[1],
        )
        raise TrainError(
            f"none of the {len(ended)} trials that reached their end keeps all conditions",
            object=f'Study "{name}"',
            hint=f'The nearest misses "{text}" by {least:.4g}.',
        )
    sign = -1.0 if plan.judge.greater else 1.0
    return min(feasible, key=lambda trial: (sign * float(trial.value or 0.0), trial.number))


def _notes(plan: Plan, context: TrainContext) -> list[str]:
    notes = []
    search, trainer = plan.search, plan.trainer
    if search.pruner is not None and not plan.looks.at:
        notes.append(f"a {type(trainer).__name__} trainer has no steps to look at, so no trial ends early")
    if trainer.workers > 1:
        notes.append(f"each trial trains with one rank, the trainer itself with {trainer.workers}")
    if search.parallel is not None and search.parallel > 1 and context.client is None:
        notes.append("there is no cluster, so trials run one after the other")
    return notes


def _numbers(trainer: Any, before: str = "") -> dict[str, float]:
    """The trainer's settings that are numbers, by dotted name."""
    found: dict[str, float] = {}
    items = (
        trainer.items()
        if isinstance(trainer, Mapping)
        else ((n, getattr(trainer, n)) for n in type(trainer).model_fields)
    )
    for name, value in items:
        if isinstance(value, int | float):
            found[before + name] = float(value)
        elif isinstance(value, Mapping) or hasattr(type(value), "model_fields"):
            found |= _numbers(value, f"{before}{name}.")
    return found


def _floats(settings: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in settings.items() if isinstance(value, int | float)}
