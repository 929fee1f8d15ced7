"""What the store answers: frozen values without a connection behind them.

Times end in ``_us`` and are microseconds since the epoch, UTC. Mappings are the reader's own copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, cast

_Record = TypeVar("_Record")


class RunState(StrEnum):
    """Where a run or a step stands; ``failed`` is the user's error, ``crashed`` is everybody else's."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CRASHED = "crashed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless somebody starts it again."""
        return self not in (RunState.PENDING, RunState.RUNNING)


@dataclass(frozen=True)
class Run:
    """One execution of a pipeline."""

    id: str
    pipeline: str
    kind: str
    state: RunState
    pipeline_fingerprint: str | None
    parent_id: str | None
    dataset_id: int | None
    principal: str
    established: str
    seed: int | None
    code: Mapping[str, Any]
    environment: Mapping[str, Any]
    tags: Mapping[str, Any]
    error: str | None
    lease_owner: str | None
    lease_until_us: int | None
    created_us: int
    started_us: int | None
    ended_us: int | None
    cancel_requested_us: int | None = None
    cancel_requested_by: str | None = None

    def is_lost(self, now_us: int) -> bool:
        """Whether it still counts as running although its driver has given no sign of life within its lease."""
        over = self.lease_until_us is not None and self.lease_until_us < now_us
        return self.state == RunState.RUNNING and over


@dataclass(frozen=True)
class Step:
    """One attempt at one step of a run."""

    id: int
    run_id: str
    name: str
    attempt: int
    state: RunState
    started_us: int
    ended_us: int | None
    worker: str | None
    memory_bytes: int | None
    cpu_us: int | None
    exit_reason: str | None
    error: str | None
    cache_key: str | None
    cache_parts: Mapping[str, Any]
    cache_hit: bool
    output_digest: str | None


@dataclass(frozen=True, init=False)
class Metric:
    """One value of a metric at one step, ``low`` and ``high`` the ends of its interval if it has one.

    ``at_us`` may be left out when it is logged: the clock then says when.
    """

    name: str
    value: float
    step: int = 0
    low: float | None = None
    high: float | None = None
    at_us: int | None = None

    def __init__(
        self,
        name: str,
        value: float,
        step: int = 0,
        low: float | None = None,
        high: float | None = None,
        at_us: int | None = None,
    ) -> None:
        # A frozen dataclass sets each field through object, which takes twice as long; lists have thousands.
        own = self.__dict__
        own["name"], own["value"], own["step"] = name, value, step
        own["low"], own["high"], own["at_us"] = low, high, at_us


@dataclass(frozen=True)
class LoggedArtifact:
    """A file or folder in the artifact store that a run left."""

    run_id: str
    name: str
    uri: str
    digest: str
    size: int
    media_type: str
    step_id: int | None
    created_us: int


@dataclass(frozen=True)
class DatasetRecord:
    """A dataset by its content: ``rows`` per split, ``report`` what was dropped and why.

    ``removed_us`` and ``removed_why`` say when and why its rows were taken away, if they were.
    """

    id: int
    name: str
    content_hash: str
    artifact_digest: str | None
    uri: str | None
    schema: Mapping[str, Any]
    rows: Mapping[str, Any]
    split: Mapping[str, Any]
    clock: str
    source_snapshot: Mapping[str, Any]
    spec_fingerprint: str | None
    report: Mapping[str, Any]
    principal: str
    created_us: int
    removed_us: int | None = None
    removed_why: str | None = None


@dataclass(frozen=True)
class ErasureRecord:
    """An erased entity: ``columns`` are its key columns, ``key`` the bytes of their values.

    Events up to ``erased_us`` are not seen; ``recorded_us`` is when it was last asked for, by ``principal``.
    """

    id: int
    columns: tuple[str, ...]
    key: bytes = field(repr=False)
    erased_us: int
    recorded_us: int
    principal: str
    established: str


@dataclass(frozen=True)
class SpecVersion:
    """One version of one declared thing. ``content`` is its canonical JSON."""

    kind: str
    name: str
    fingerprint: str
    content: str


@dataclass(frozen=True)
class Apply:
    """One change of the set of specs in force; ``fingerprint`` is that of the set."""

    id: int
    fingerprint: str
    changes: Mapping[str, Any]
    code: Mapping[str, Any]
    principal: str
    established: str
    applied_us: int


@dataclass(frozen=True)
class ModelVersion:
    """One trained model under its name; ``aliases`` are those that point at it now."""

    model: str
    version: int
    run_id: str | None
    dataset_id: int | None
    artifact_digest: str
    artifact_uri: str | None
    signature: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, Any]
    principal: str
    established: str
    created_us: int
    aliases: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """``name:version``, as :meth:`MetadataStore.resolve_model` reads it."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True)
class AliasMove:
    """One move of an alias; ``to_version`` is None where it was taken away."""

    model: str
    alias: str
    from_version: int | None
    to_version: int | None
    why: str
    evidence: Mapping[str, Any]
    principal: str
    established: str
    moved_us: int
    audit_seq: int


@dataclass(frozen=True)
class Deployment:
    """A model version that answers, or answered, at a target."""

    id: int
    model: str
    version: int
    target: str
    state: str
    rollout: Mapping[str, Any]
    why: str
    principal: str
    established: str
    started_us: int
    ended_us: int | None


@dataclass(frozen=True)
class Materialisation:
    """One write of a view to the online store."""

    id: int
    view: str
    view_fingerprint: str | None
    boundary_us: int
    interval_start_us: int | None
    interval_end_us: int | None
    rows: int
    nulls: Mapping[str, Any]
    dropped_keys: int
    missed: bool
    run_id: str | None
    principal: str
    started_us: int
    ended_us: int


@dataclass(frozen=True)
class Study:
    """A search for good settings."""

    id: int
    run_id: str | None
    name: str
    metric: str
    direction: str
    space: Mapping[str, Any]
    sampler: Mapping[str, Any]
    seed: int | None
    principal: str
    created_us: int


@dataclass(frozen=True)
class Trial:
    """One try of a study; ``values`` are the intermediate ones by step."""

    id: int
    study_id: int
    number: int
    state: str
    params: Mapping[str, Any]
    values: Mapping[str, Any]
    value: float | None
    run_id: str | None
    started_us: int
    ended_us: int | None


@dataclass(frozen=True)
class Monitor:
    """Something that is watched, with what its last check left in ``state``."""

    id: int
    name: str
    kind: str
    spec: Mapping[str, Any]
    fingerprint: str
    state: Mapping[str, Any]
    enabled: bool
    created_us: int
    checked_us: int | None


@dataclass(frozen=True)
class Alert:
    """Something that a monitor found."""

    id: int
    monitor_id: int | None
    dedup_key: str
    state: str
    severity: str
    title: str
    details: Mapping[str, Any]
    opened_us: int
    acknowledged_us: int | None
    acknowledged_by: str | None
    silenced_until_us: int | None
    resolved_us: int | None


@dataclass(frozen=True)
class AuditEntry:
    """One row of the audit log; ``details`` is canonical JSON."""

    seq: int
    at_us: int
    principal: str
    established: str
    project: str
    action: str
    object: str
    details: str
    prev_hash: str
    hash: str


@dataclass(frozen=True)
class AuditProblem:
    """Something wrong with the chain at row ``seq``: ``changed``, ``missing``, ``reordered`` or ``broken``."""

    seq: int
    kind: str
    text: str


@dataclass(frozen=True)
class AuditReport:
    """What a walk along the chain found."""

    rows: int
    head_hash: str
    problems: tuple[AuditProblem, ...]

    @property
    def ok(self) -> bool:
        """Whether the chain is whole."""
        return not self.problems


def to_record(kind: type[_Record], row: object, **more: object) -> _Record:
    """Copy a table row into a record.

    Args:
        kind: A dataclass of this module; its fields are read from the row by name.
        row: An ORM row.
        more: Fields that the row does not have, or that have to be read differently.
    """
    values = {name: getattr(row, name) for name in _names(cast(type, kind)) if name not in more}
    return kind(**values, **more)


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))
