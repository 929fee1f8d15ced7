"""The one error hierarchy: what happened, to which object in which file, what was expected, what to do.

    MlcoreError                  exit 1
    +-- UsageError               exit 2   a command or call was given something it cannot mean
    |   +-- ConfigError                   mlcore.toml, its overlays, environment, secrets
    |   +-- SpecError                     a declaration is wrong by itself
    |   +-- PlanError                     declarations that do not fit together, or do not load
    |   +-- UnknownNameError              a name that does not exist, with the nearest that do
    +-- SourceError                       data that cannot be read or is not what was declared
    +-- EngineError                       a computation that cannot give a right answer
    +-- StoreError                        an online store that cannot be read or written
    |   +-- StoreTimeout                  one that gave no answer in time
    |   +-- StoredRowError                what is in it cannot be read by this version or declaration
    +-- ArtifactError                     the content-addressed store
    +-- MetadataError                     the metadata database
    +-- RegistryError                     Feast's registry: locked, read-only, broken
    +-- TrainError                        data or settings that no model can be trained from
    |   +-- MachineError                  what a machine that trains lacks: memory, disk, a device, a file
    |   +-- ClusterLost                   a cluster that went away at work; an EngineError too
    +-- StepError                         a step of the user's own that did not end well
    |   +-- StepFailed                    it raised an error, or returned what it had not promised
    |   +-- StepCrashed                   its process or its worker is gone
    |   +-- StepTimeout                   it took too long and was ended
    |   +-- StepCancelled                 it was ended because somebody asked for it
    +-- ServeError                        a request that cannot be answered
    +-- WorkflowError                     a run that cannot be started, resumed or go on
    |   +-- RunCancelled                  one that somebody cancelled
    +-- GateFailed               exit 3
    +-- PlanHasChanges           exit 4
    +-- AwaitsApproval           exit 5

Each class is also the built-in error that fits it, so that callers who know only Python can catch it.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar, Self

__all__ = [
    "ArtifactError",
    "AwaitsApproval",
    "ClusterLost",
    "ConfigError",
    "EngineError",
    "ExitCode",
    "GateFailed",
    "MachineError",
    "MetadataError",
    "MlcoreError",
    "PlanError",
    "PlanHasChanges",
    "RegistryError",
    "RunCancelled",
    "ServeError",
    "SourceError",
    "SpecError",
    "StepCancelled",
    "StepCrashed",
    "StepError",
    "StepFailed",
    "StepTimeout",
    "StoreError",
    "StoreTimeout",
    "StoredRowError",
    "TrainError",
    "UnknownNameError",
    "UsageError",
    "WorkflowError",
    "disk_is_full",
    "nearest",
]


class ExitCode(IntEnum):
    """What the ``mlcore`` command's exit status means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    GATE_FAILED = 3
    PLAN_HAS_CHANGES = 4
    AWAITS_APPROVAL = 5


class MlcoreError(Exception):
    """Something this package cannot do, said so that a person can mend it.

    Args:
        what: What is wrong, one sentence without a final stop.
        object: The declared thing it happened to, e.g. ``FeatureView "carrier_delay"``.
        place: Where that thing is, e.g. ``feature_repo/flights.py:12``.
        expected: What would have been right.
        hint: What to do now.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(
        self,
        what: str,
        *,
        object: str | None = None,
        place: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.object = object
        self.place = place
        self.expected = expected
        self.hint = hint
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        head = ": ".join(part for part in (self.place, self.object, self.what) if part)
        tail = [f"Expected {self.expected}."] if self.expected else []
        tail += [self.hint] if self.hint else []
        return head + "".join(f". {part}" if i == 0 else f" {part}" for i, part in enumerate(tail))

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Dask workers); keyword-only arguments need help to survive pickling.
        return (_rebuild, (type(self), self.what, self.object, self.place, self.expected, self.hint))


def _rebuild(
    kind: type[MlcoreError],
    what: str,
    object: str | None,
    place: str | None,
    expected: str | None,
    hint: str | None,
) -> MlcoreError:
    return kind(what, object=object, place=place, expected=expected, hint=hint)


class UsageError(MlcoreError, ValueError):
    """A command or call was given something it cannot mean."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A setting is missing, misspelt or of the wrong type."""


class SpecError(UsageError):
    """A declaration is wrong by itself."""


class PlanError(UsageError):
    """Declarations do not load or do not fit together."""


class UnknownNameError(UsageError, KeyError):
    """A name that does not exist here."""

    def __str__(self) -> str:  # KeyError would print the repr of the sentence
        return self._sentence()


class SourceError(MlcoreError, OSError):
    """Data that cannot be read, or is not what was declared."""

    def __str__(self) -> str:
        return self._sentence()


class EngineError(MlcoreError, ArithmeticError):
    """A computation that cannot give a right answer, such as an integer sum that overflows."""


class StoreError(MlcoreError, RuntimeError):
    """An online store that cannot be read or written."""


class StoreTimeout(StoreError):
    """An online store that gave no answer in time; what was asked of it may still happen."""


class StoredRowError(StoreError):
    """A stored row that cannot be read: of a newer layout, of another declaration of its view, or damaged."""


class ArtifactError(MlcoreError, RuntimeError):
    """An artifact that is missing, damaged, or cannot be stored."""


class MetadataError(MlcoreError, RuntimeError):
    """The metadata database cannot be used as it is."""


class RegistryError(MlcoreError, RuntimeError):
    """Feast's registry cannot be read or written."""


class TrainError(MlcoreError, ValueError):
    """Data or settings that no model can be trained from."""


class MachineError(TrainError):
    """What a machine that trains lacks, such as memory, disk, a device or a file; the rows are not at fault."""


class ClusterLost(EngineError, TrainError):
    """The cluster went away under a computation or a training; trying again may help, since schedulers are started again."""


class StepError(MlcoreError, RuntimeError):
    """A step of the user's own that did not end well.

    Attributes:
        log: What it printed and logged, the last of it; its traceback too, where it raised an error.
        worker: Where it ran; None where that is not known.
        memory_bytes: Most memory that it had in use; None where that is not known.
        cpu_us: Its processor time in microseconds; None where that is not known.
    """

    log: str = ""
    worker: str | None = None
    memory_bytes: int | None = None
    cpu_us: int | None = None

    def with_log(
        self,
        log: str,
        *,
        worker: str | None = None,
        memory_bytes: int | None = None,
        cpu_us: int | None = None,
    ) -> Self:
        """Return the same error, with what the step had said until then, where it ran and what it used."""
        self.log, self.worker = log, worker
        self.memory_bytes, self.cpu_us = memory_bytes, cpu_us
        return self

    def __reduce__(self) -> tuple[object, ...]:
        told = {name: getattr(self, name) for name in ("log", "worker", "memory_bytes", "cpu_us")}
        return (*super().__reduce__(), told)


class StepFailed(StepError):
    """A step raised an error, cannot be imported, or returned what it had not promised; trying again does not help."""


class StepCrashed(StepError):
    """A step's process ended without a result, or its worker was lost; trying again may help."""


class StepTimeout(StepError):
    """A step took longer than it may, and was ended; trying again may help."""


class StepCancelled(StepError):
    """A step was ended because somebody asked for it."""


class ServeError(MlcoreError, RuntimeError):
    """A request that cannot be answered."""


class WorkflowError(MlcoreError, RuntimeError):
    """A run that cannot be started, resumed, or go on."""


class RunCancelled(WorkflowError):
    """A run that somebody cancelled; it can be resumed."""


class GateFailed(MlcoreError):
    """A model did not pass the gate that its pipeline declares."""

    exit_code = ExitCode.GATE_FAILED


class PlanHasChanges(MlcoreError):
    """The repository differs from what was applied."""

    exit_code = ExitCode.PLAN_HAS_CHANGES


class AwaitsApproval(MlcoreError):
    """A change that somebody else has to approve."""

    exit_code = ExitCode.AWAITS_APPROVAL


def disk_is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or the user's share of it, has no space left.

    Example:
        >>> disk_is_full(OSError(28, "No space left on device"))
        True
    """
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def nearest(name: str, known: Iterable[str], *, limit: int = 12) -> str:
    """Say which known names are near a misspelt one, then list them all.

    Args:
        name: The name that was not found.
        known: The names that exist.
        limit: How many names the list shows before it is cut.

    Returns:
        A sentence for an error's hint.

    Example:
        >>> nearest("dep_dealy", ["dep_delay", "dest"])
        'Did you mean "dep_delay"? Known: dep_delay, dest.'
    """
    names = sorted(set(known))
    if not names:
        return "There are none."
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    guess = f'Did you mean "{close[0]}"? ' if close else ""
    shown = ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "")
    return f"{guess}Known: {shown}."
