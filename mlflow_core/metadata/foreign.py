"""Runs that another system recorded, taken over as records of our own: whole, once, and written to the audit log.

They have ended where they come from. Nobody drives, resumes or reproduces them; they are listed and compared like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mlflow_core.metadata.audit import append
from mlflow_core.metadata.canonical import canonical, plain, sha256
from mlflow_core.metadata.logged import Logged, write_metrics, write_params
from mlflow_core.metadata.prepared import Raw
from mlflow_core.metadata.records import Metric, Run, RunState
from mlflow_core.metadata.runs import ending, run_id_at, run_of
from mlflow_core.metadata.tables import ArtifactRow, RunRow

__all__ = ["IMPORTED", "ForeignFile", "ForeignRun"]

IMPORTED: Final = "imported"
"""The kind of such a run."""


@dataclass(frozen=True)
class ForeignFile:
    """A file or folder of such a run, in our artifact store already; the fields are those of ``Artifact``."""

    name: str
    uri: str
    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class ForeignRun:
    """A run as another system recorded it.

    Attributes:
        key: What tells it apart from all others of any system.
        pipeline: What it is listed under; a name that no pipeline of ours can have.
        state: How it ended.
        started_us: When it began, microseconds since the epoch, UTC.
        ended_us: When it ended, if that is known.
        params: Name -> value.
        metrics: Every value of each; one a step.
        code: Commit, source.
        tags: Anything else.
        parent_id: The run of ours that started it.
        files: What it left.
    """

    key: str
    pipeline: str
    state: RunState
    started_us: int
    ended_us: int | None
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Iterable[Metric] = ()
    code: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    parent_id: str | None = None
    files: Iterable[ForeignFile] = ()


class ForeignRuns(Logged):
    """Runs of other systems in one project."""

    def find_foreign_run(self, key: str, started_us: int) -> Run | None:
        """Find such a run that was taken over before.

        Args:
            key: What tells it apart.
            started_us: When it began.
        """
        with self._database.reading() as session:
            row = session.get(RunRow, self._foreign_id(key, started_us))
            return None if row is None else run_of(row)

    def import_run(self, found: ForeignRun) -> tuple[Run, bool]:
        """Take a run over: the run, its params, metrics, files and the audit row are one transaction.

        Args:
            found: The run.

        Returns:
            The run, and whether it is new. One that was taken over before stays as it is.

        Raises:
            MetadataError: Its state is no way to end, or a value cannot be written.
        """
        now = self._clock.now_us()
        own = self._foreign_id(found.key, found.started_us)
        state = ending(found.state)
        metrics = list(found.metrics)
        texts = {name: canonical(value) for name, value in found.params.items()}
        with self._database.writing() as session:
            project = self._project_id(session)
            known = session.get(RunRow, own)
            if known is not None:
                return run_of(known), False
            self._must_own(session, run_id=found.parent_id)
            row = RunRow(
                id=own,
                project_id=project,
                pipeline=found.pipeline,
                kind=IMPORTED,
                state=state,
                parent_id=found.parent_id,
                principal=self._principal.name,
                established=self._principal.established,
                code=plain(found.code),
                environment={},
                tags=plain(found.tags),
                created_us=found.started_us,
                started_us=found.started_us,
                ended_us=found.ended_us,
            )
            session.add(row)
            session.flush()
            to = Raw.of(session.connection())
            write_params(to, own, texts)
            write_metrics(to, own, metrics, now)
            for file in found.files:
                session.add(ArtifactRow(run_id=own, step_id=None, created_us=now, **vars(file)))
            details = {"key": found.key, "params": sha256(canonical(found.params)), "metrics": len(metrics)}
            append(
                session, self._clock, self._principal, self._scope_name, "run.import", f"run:{own}", details
            )
            return run_of(row), True

    def _foreign_id(self, key: str, started_us: int) -> str:
        """The one id that such a run can have in this project, so that it is there once."""
        return run_id_at(started_us, sha256(f"{self._scope_name} {key}").removeprefix("sha256:")[:10])
