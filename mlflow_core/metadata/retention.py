"""What the records of a database need of the artifact store, over all its projects: they may share one store.

Says nothing of how long anything is kept, and removes nothing: callers give the moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select, union
from sqlalchemy.orm import Session

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.foreign import IMPORTED
from mlflow_core.metadata.records import RunState
from mlflow_core.metadata.tables import (
    AliasRow,
    ArtifactRow,
    DatasetRow,
    DeploymentRow,
    ModelVersionRow,
    NamespaceRow,
    ProjectRow,
    RunRow,
    ScheduleRow,
    StepRow,
)
from mlflow_core.metadata.upgrade import check_database

__all__ = ["Needed", "OldDataset", "read_needed"]

_LIVE: Final = ("starting", "running", "paused", "frozen")
_AT_ONCE: Final = 500


@dataclass(frozen=True)
class OldDataset:
    """A training set that nothing needs any more: its record stays, its rows may go."""

    id: int
    name: str
    digest: str
    namespace: str
    project: str
    created_us: int


@dataclass(frozen=True)
class Needed:
    """What records need.

    Attributes:
        digests: Artifacts that stay.
        datasets: Training sets that may go.
        versions: How many model versions are too old for their models to stay.
        running: Runs that have not ended.
    """

    digests: frozenset[str]
    datasets: tuple[OldDataset, ...]
    versions: int
    running: frozenset[str]


def read_needed(
    url: str, *, runs_since_us: int | None, datasets_since_us: int | None, versions: int | None
) -> Needed:
    """Read what the records of a database need.

    Args:
        url: SQLAlchemy's url.
        runs_since_us: What runs left that ended since then stays; None keeps that of all. Runs that have not ended,
            each pipeline's last good run and each schedule's last run keep theirs anyway.
        datasets_since_us: Training sets built since then stay; None keeps all. Those of kept runs, and of versions that
            an alias points at or that are deployed, stay anyway.
        versions: How many of each model's newest versions stay beside those; None keeps all.

    Raises:
        MetadataError: The database is not of this version or cannot be read: what it needs is not known then.
    """
    database = Database(url)
    try:
        if (state := check_database(database).state) != "current":
            raise MetadataError(
                f"is {state}, so nobody can say what it needs",
                object=f"database {database.shown}",
                hint="Run: mlcore db check",
            )
        with database.reading() as session:
            return _needed(session, runs_since_us, datasets_since_us, versions)
    finally:
        database.close()


def _needed(
    session: Session, runs_since: int | None, datasets_since: int | None, newest: int | None
) -> Needed:
    runs = _kept_runs(runs_since)
    kept, in_use, gone = _versions(session, newest)
    digests = set(_digests(session, runs))
    go = _old_datasets(session, runs, in_use, datasets_since, digests)
    for some in _some_at_once(kept):
        mine = ModelVersionRow.id.in_(some)
        digests.update(session.scalars(select(ModelVersionRow.artifact_digest).where(mine)))
        of_run = select(ModelVersionRow.run_id).where(mine, ModelVersionRow.run_id.is_not(None))
        digests.update(session.scalars(select(ArtifactRow.digest).where(ArtifactRow.run_id.in_(of_run))))
    here = select(DatasetRow.id, DatasetRow.artifact_digest).where(
        DatasetRow.removed_us.is_(None), DatasetRow.artifact_digest.is_not(None)
    )
    leaving = {one.id for one in go}
    staying = {digest for id_, digest in session.execute(here) if id_ not in leaving and digest is not None}
    # What two projects built alike is one artifact: it goes when both let it go.
    digests = (digests - {one.digest for one in go}) | staying
    running = session.scalars(select(RunRow.id).where(RunRow.state.in_((RunState.PENDING, RunState.RUNNING))))
    return Needed(
        frozenset(digests), tuple(one for one in go if one.digest not in staying), gone, frozenset(running)
    )


def _kept_runs(since_us: int | None) -> Any:
    """The runs that keep what they left, as a query of their ids."""
    if since_us is None:
        return select(RunRow.id)
    # An imported run ended long ago and elsewhere: nothing here could make again what it left.
    recent = select(RunRow.id).where(
        RunRow.ended_us.is_(None) | (RunRow.ended_us >= since_us) | (RunRow.kind == IMPORTED)
    )
    # Ids begin with the time, so the greatest is the last.
    last_good = (
        select(func.max(RunRow.id))
        .where(RunRow.state == RunState.SUCCEEDED)
        .group_by(RunRow.project_id, RunRow.pipeline)
    )
    scheduled = select(ScheduleRow.last_run).where(ScheduleRow.last_run.is_not(None))
    return select(union(recent, last_good, scheduled).subquery().c[0])


def _digests(session: Session, runs: Any) -> Iterator[str]:
    yield from session.scalars(select(ArtifactRow.digest).where(ArtifactRow.run_id.in_(runs)).distinct())
    outputs = select(StepRow.output_digest).where(
        StepRow.run_id.in_(runs), StepRow.output_digest.is_not(None)
    )
    yield from (digest for digest in session.scalars(outputs.distinct()) if digest is not None)


def _versions(session: Session, newest: int | None) -> tuple[list[int], set[int], int]:
    """Versions that stay, the datasets of those in use, and how many do not stay."""
    pointed = set(session.scalars(select(AliasRow.version_id)))
    pointed |= set(session.scalars(select(DeploymentRow.version_id).where(DeploymentRow.state.in_(_LIVE))))
    rows = session.execute(
        select(ModelVersionRow.id, ModelVersionRow.model_id, ModelVersionRow.dataset_id).order_by(
            ModelVersionRow.model_id, ModelVersionRow.version.desc()
        )
    )
    kept: list[int] = []
    in_use: set[int] = set()
    gone = 0
    seen: dict[int, int] = {}
    for id_, model, dataset in rows:
        seen[model] = seen.get(model, 0) + 1
        if id_ in pointed and dataset is not None:
            in_use.add(dataset)
        if newest is None or seen[model] <= newest or id_ in pointed:
            kept.append(id_)
        else:
            gone += 1
    return kept, in_use, gone


def _old_datasets(
    session: Session, runs: Any, in_use: set[int], since_us: int | None, needed: set[str]
) -> list[OldDataset]:
    if since_us is None:
        return []
    used = set(
        session.scalars(
            select(RunRow.dataset_id).where(RunRow.id.in_(runs), RunRow.dataset_id.is_not(None)).distinct()
        )
    )
    rows = session.execute(
        select(DatasetRow, ProjectRow.name, NamespaceRow.name)
        .join(ProjectRow, DatasetRow.project_id == ProjectRow.id)
        .join(NamespaceRow, ProjectRow.namespace_id == NamespaceRow.id)
        .where(
            DatasetRow.removed_us.is_(None),
            DatasetRow.artifact_digest.is_not(None),
            DatasetRow.created_us < since_us,
        )
        .order_by(DatasetRow.id)
    )
    return [
        OldDataset(row.id, row.name, row.artifact_digest or "", namespace, project, row.created_us)
        for row, project, namespace in rows
        if row.id not in used and row.id not in in_use and row.artifact_digest not in needed
    ]


def _some_at_once(ids: list[int]) -> Iterable[list[int]]:
    """Databases limit how many values a statement may have."""
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
