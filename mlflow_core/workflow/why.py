"""Why each step of a run was run or not: what its key was made of, against the nearest earlier attempt at the same step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ArtifactError
from mlflow_core.metadata import MetadataStore, Run, Step
from mlflow_core.metadata.records import RunState
from mlflow_core.workflow.keys import Changed, difference

__all__ = ["StepReason", "why"]

_LOOKED_AT = 200
_AT_ONCE = 1_000
_SHOWN = 4


@dataclass(frozen=True)
class StepReason:
    """Why a step was run, or was not.

    Attributes:
        step: Its name.
        attempt: Which attempt at it, from 1.
        state: How the attempt ended, or ``running``.
        found: Whether its output was found, so that nothing was done.
        against: The run whose attempt it is compared with; the one that made the output where it was found; None
            where there is none.
        changed: What differs from that attempt.
        note: What else a person should know, e.g. that the same was tried before and failed.
    """

    step: str
    attempt: int
    state: str
    found: bool
    against: str | None
    changed: tuple[Changed, ...]
    note: str = ""

    def describe(self) -> str:
        """The reason in one line."""
        if self.found:
            return f"its output was made in run {self.against}" if self.against else "its output was found"
        if self.note:
            return self.note
        told = [one.describe() for one in self.changed]
        more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        return "; ".join(told[:_SHOWN]) + more

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "step": self.step,
            "attempt": self.attempt,
            "state": self.state,
            "hit": self.found,
            "against": self.against,
            "changed": [vars(one) for one in self.changed],
            "reason": self.describe(),
        }


def why(metadata: MetadataStore, artifacts: ArtifactStore, run_id: str) -> tuple[StepReason, ...]:
    """Say for every attempt at a step of a run whether it was a hit or a miss, and what differed.

    Args:
        metadata: Where runs are written down.
        artifacts: Where their environments are kept.
        run_id: The run, as for ``MetadataStore.get_run``.

    Raises:
        UnknownNameError: There is no such run.
    """
    run = metadata.get_run(run_id)
    earlier = _earlier(metadata, run)
    attempts = {one.id: metadata.list_steps(one.id) for one in earlier}
    reasons = []
    before: list[Step] = []
    for step in metadata.list_steps(run.id):
        if step.cache_hit:
            origin = metadata.origin_of_output(step.id)
            reasons.append(StepReason(step.name, step.attempt, step.state.value, True, origin, ()))
        else:
            reasons.append(_reason(step, run, before, earlier, attempts, artifacts))
        before.append(step)
    return tuple(reasons)


def _earlier(metadata: MetadataStore, run: Run) -> list[Run]:
    """The runs of the same pipeline before a run, the newest first; that run may itself be an old one."""
    earlier: list[Run] = []
    seen = 0
    while len(earlier) < _LOOKED_AT:
        some = metadata.list_runs(pipeline=run.pipeline, limit=_AT_ONCE, offset=seen)
        earlier += [one for one in some if (one.created_us, one.id) < (run.created_us, run.id)]
        seen += len(some)
        if len(some) < _AT_ONCE:
            break
    return earlier[:_LOOKED_AT]


def _reason(
    step: Step,
    run: Run,
    before: list[Step],
    earlier: list[Run],
    attempts: Mapping[str, list[Step]],
    artifacts: ArtifactStore,
) -> StepReason:
    """Compare with this run's own earlier attempts first, then with those of earlier runs, the newest first."""
    same_step = [one for one in reversed(before) if one.name == step.name]
    for other in earlier:
        same_step += [one for one in reversed(attempts[other.id]) if one.name == step.name]
    state = step.state.value
    if not step.cache_key:
        return StepReason(step.name, step.attempt, state, False, None, (), "it has no key")
    compared = [one for one in same_step if one.cache_key]
    if not compared:
        note = "the first attempt at this step"
        return StepReason(step.name, step.attempt, state, False, None, (), note)
    nearest = min(
        compared, key=lambda one: (len(_differing(one, step)), one.state != RunState.SUCCEEDED, -one.id)
    )
    changed = tuple(_named(difference(nearest.cache_parts, step.cache_parts), artifacts))
    return StepReason(
        step.name,
        step.attempt,
        state,
        False,
        nearest.run_id,
        changed,
        "" if changed else _again(nearest, run),
    )


def _differing(one: Step, other: Step) -> set[str]:
    """The parts in which two keys differ."""
    return {
        name
        for name in {*one.cache_parts, *other.cache_parts}
        if one.cache_parts.get(name) != other.cache_parts.get(name)
    }


def _again(nearest: Step, run: Run) -> str:
    """Why a step was run although nothing has changed."""
    where = "in this run" if nearest.run_id == run.id else f"in run {nearest.run_id}"
    if nearest.state != RunState.SUCCEEDED:
        return f"nothing changed: attempt {nearest.attempt} {where} had {nearest.state.value}"
    return f"nothing changed since {where.removeprefix('in ')}: it was asked for anew, or its output is gone"


def _named(changes: tuple[Changed, ...], artifacts: ArtifactStore) -> list[Changed]:
    """Tell changed packages instead of a changed environment, where both are still known."""
    named: list[Changed] = []
    for change in changes:
        packages = _packages(change, artifacts) if change.part == "environment" else None
        named += [change] if packages is None else packages
    return named


def _packages(change: Changed, artifacts: ArtifactStore) -> list[Changed] | None:
    try:
        before, after = (orjson.loads(artifacts.read_bytes(one)) for one in (change.before, change.after))
    except (ArtifactError, TypeError):
        return None
    return [
        Changed("environment", name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
