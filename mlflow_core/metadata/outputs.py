"""Outputs of steps as a web: what each was made of, and who else needs the same bytes. For erasures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from mlflow_core.metadata.records import RunState
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import ArtifactRow, DatasetRow, ModelVersionRow, RunRow, StepRow

__all__ = ["MadeOutput", "Outputs"]

_AT_ONCE = 500


@dataclass(frozen=True)
class MadeOutput:
    """An attempt at a step that ended well.

    Attributes:
        step_id: Its number.
        run_id: Its run.
        step: The step's name.
        digest: What it left.
        inputs: Digests of what it read.
    """

    step_id: int
    run_id: str
    step: str
    digest: str
    inputs: frozenset[str]


class Outputs(Scope):
    """What the steps of one project's runs left."""

    def list_outputs(self) -> list[MadeOutput]:
        """Every output that a step of the project left, found ones too, in the order in which the steps began."""
        with self._database.reading() as session:
            query = (
                select(StepRow.id, StepRow.run_id, StepRow.name, StepRow.output_digest, StepRow.cache_parts)
                .join(RunRow, StepRow.run_id == RunRow.id)
                .where(
                    RunRow.project_id == self._find_project(session),
                    StepRow.state == RunState.SUCCEEDED,
                    StepRow.output_digest.is_not(None),
                )
                .order_by(StepRow.id)
            )
            return [
                MadeOutput(
                    id_, run_id, name, digest or "", frozenset((parts or {}).get("inputs", {}).values())
                )
                for id_, run_id, name, digest, parts in session.execute(query)
            ]

    def removed_of(self, digests: Collection[str]) -> frozenset[str]:
        """Those of some artifacts that are datasets of the project whose rows were taken away."""
        with self._database.reading() as session:
            query = select(DatasetRow.artifact_digest, DatasetRow.removed_us).where(
                DatasetRow.project_id == self._find_project(session),
                DatasetRow.artifact_digest.in_(sorted(digests)),
            )
            found = [(digest or "", removed) for digest, removed in session.execute(query)]
        there = {digest for digest, removed in found if removed is None}
        return frozenset(digest for digest, _ in found) - there

    def runs_of_any_project(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of some ids that are runs of this database, of whichever project."""
        with self._database.reading() as session:
            return frozenset(
                run
                for some in _some_at_once(sorted(ids))
                for run in session.scalars(select(RunRow.id).where(RunRow.id.in_(some)))
            )

    def needed_beside(self, digests: Collection[str], steps: Collection[int]) -> frozenset[str]:
        """Say which artifacts something else needs: another step's output, a run's file, a model, a dataset.

        Args:
            digests: Of artifacts.
            steps: The steps, by number, that do not count as far as they left one of ``digests``.

        Returns:
            Those of the digests that a record of any project of the database names, which is none of these steps'.
        """
        needed: set[str] = set()
        own = set(steps)
        with self._database.reading() as session:
            for some in _some_at_once(sorted(digests)):
                left = select(StepRow.output_digest, StepRow.id).where(StepRow.output_digest.in_(some))
                kept = select(ArtifactRow.digest, ArtifactRow.step_id).where(ArtifactRow.digest.in_(some))
                for query in (left, kept):
                    needed |= {digest for digest, step in session.execute(query) if step not in own}
                models = select(ModelVersionRow.artifact_digest)
                needed |= set(session.scalars(models.where(ModelVersionRow.artifact_digest.in_(some))))
                datasets = select(DatasetRow.artifact_digest).where(DatasetRow.removed_us.is_(None))
                needed |= set(session.scalars(datasets.where(DatasetRow.artifact_digest.in_(some))))
        return frozenset(needed)


def _some_at_once(digests: list[str]) -> Iterator[Any]:
    """Databases limit how many values a statement may have."""
    return (digests[start : start + _AT_ONCE] for start in range(0, len(digests), _AT_ONCE))
