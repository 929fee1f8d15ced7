"""Erased entities: the durable list that back-fills, caches, datasets and the online store are held to.

The key itself is kept, not a digest of it: a tombstone that an online store has lost can only be put back under the
key, and sources are searched for it. Nothing else of the entity is kept, and the audit log, which is never pruned,
does not name the key at all. What a key's bytes mean is ``mlflow_core.online.keys``'s business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from mlflow_core.config.clock import SystemClock
from mlflow_core.config.principal import Principal
from mlflow_core.errors import UnknownNameError
from mlflow_core.metadata.audit import append
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.records import DatasetRecord, ErasureRecord, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import DatasetRow, ErasureRow
from mlflow_core.metadata.upgrade import check_database, too_new

__all__ = ["ErasureList", "keeps_erasures", "read_erasures"]


class ErasureList(Scope):
    """The erased entities of one project."""

    def record_erasure(self, columns: Sequence[str], key: bytes, erased_us: int) -> ErasureRecord:
        """Note that an entity is erased, with its row of the audit log in the same transaction.

        Args:
            columns: Its key columns, in order.
            key: Their values, as bytes that are equal for equal keys.
            erased_us: Events up to this time are not to be seen, microseconds since the epoch, UTC. Of two
                erasures of one key the later time stays.

        Returns:
            The record, which is the same one for the same key.
        """
        named = json.dumps(list(columns))
        digest = hashlib.sha256(named.encode() + b"\0" + key).hexdigest()
        with self._database.writing() as session:
            project = self._project_id(session)
            row = session.scalar(
                select(ErasureRow).where(ErasureRow.project_id == project, ErasureRow.key_digest == digest)
            )
            if row is None:
                row = ErasureRow(
                    project_id=project, columns=named, key=key, key_digest=digest, erased_us=erased_us
                )
                session.add(row)
            row.erased_us = max(row.erased_us, erased_us)
            row.recorded_us = self._clock.now_us()
            row.principal, row.established = self._principal.name, self._principal.established
            session.flush()
            details = {"columns": list(columns), "erased_us": row.erased_us}
            append(
                session,
                self._clock,
                self._principal,
                self._scope_name,
                "features.delete",
                f"erasure:{row.id}",
                details,
            )
            return _record(row)

    def list_erasures(self) -> list[ErasureRecord]:
        """All erased entities, in the order in which they were first erased."""
        with self._database.reading() as session:
            return _listed(self, session)

    def remove_dataset(self, dataset: int, why: str) -> DatasetRecord:
        """Note that a dataset's rows were taken away; its record stays, and so do the runs that used it.

        Args:
            dataset: Its number.
            why: In words; it must not name the key.

        Raises:
            UnknownNameError: There is no such dataset in this project.
        """
        with self._database.writing() as session:
            row = session.get(DatasetRow, dataset)
            if row is None or row.project_id != self._find_project(session):
                raise UnknownNameError(f"there is no dataset {dataset}")
            row.removed_us, row.removed_why = self._clock.now_us(), why
            append(
                session,
                self._clock,
                self._principal,
                self._scope_name,
                "dataset.remove",
                f"dataset:{row.id}",
                {"why": why, "content_hash": row.content_hash},
            )
            return to_record(DatasetRecord, row)


def read_erasures(url: str, *, project: str, namespace: str = "default") -> list[ErasureRecord]:
    """Read a project's erased entities, for those who read features and nothing else of the database.

    Args:
        url: SQLAlchemy's url.
        project: Whose.
        namespace: The team that the project belongs to.

    Returns:
        All of them; none where there is no database, or one from before erasures were recorded.

    Raises:
        MetadataError: The database is newer than this code or cannot be read: whom it would hide is not known then.
    """
    database = Database(url)
    try:
        state = check_database(database)
        if state.state == "newer":
            raise too_new(state, database.shown)
        if state.state == "empty" or (state.state == "older" and not keeps_erasures(database)):
            return []
        scope = Scope(database, SystemClock(), Principal("reader"), namespace, project)
        with database.reading() as session:
            return _listed(scope, session)
    finally:
        database.close()


def keeps_erasures(database: Database) -> bool:
    """Whether a database that is older than this code keeps erasures already."""
    with database.connecting(write=False) as connection:
        return inspect(connection).has_table(ErasureRow.__tablename__)


def _listed(scope: Scope, session: Session) -> list[ErasureRecord]:
    mine = select(ErasureRow).where(ErasureRow.project_id == scope._find_project(session))
    return [_record(row) for row in session.scalars(mine.order_by(ErasureRow.id))]


def _record(row: ErasureRow) -> ErasureRecord:
    return to_record(ErasureRecord, row, columns=tuple(json.loads(row.columns)))
