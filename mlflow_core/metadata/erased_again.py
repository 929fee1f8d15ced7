"""What a restored backup must not undo: erasures that were asked for after it was made.

A backup knows who was erased until then; whoever was erased later would be seen again. So the database that is to be
replaced is asked before, and what the restored one does not know is written into it once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select

from mlflow_core.config.clock import Clock
from mlflow_core.config.principal import Principal
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.erasures import keeps_erasures
from mlflow_core.metadata.store import MetadataStore
from mlflow_core.metadata.tables import ErasureRow, NamespaceRow, ProjectRow
from mlflow_core.metadata.upgrade import check_database, upgrade

__all__ = ["Erased", "erase_again", "erasures_of_all"]


@dataclass(frozen=True)
class Erased:
    """An erasure and whose it is; see ``mlflow_core.metadata.ErasureRecord``."""

    namespace: str
    project: str
    columns: tuple[str, ...]
    key: bytes = field(repr=False)
    erased_us: int

    @property
    def whom(self) -> tuple[str, str, tuple[str, ...], bytes]:
        """The entity, of all projects'."""
        return self.namespace, self.project, self.columns, self.key


def erasures_of_all(url: str) -> tuple[Erased, ...]:
    """Read the erasures of all projects of a database, of whichever version it is.

    Args:
        url: SQLAlchemy's url.

    Returns:
        In the order in which they were first asked for; none where the database keeps none yet.

    Raises:
        MetadataError: The database cannot be read.
    """
    database = Database(url)
    try:
        if check_database(database).state == "empty" or not keeps_erasures(database):
            return ()
        # Column by column: a later version's tables may have more of them.
        rows = (
            select(
                NamespaceRow.name, ProjectRow.name, ErasureRow.columns, ErasureRow.key, ErasureRow.erased_us
            )
            .join(ProjectRow, ErasureRow.project_id == ProjectRow.id)
            .join(NamespaceRow, ProjectRow.namespace_id == NamespaceRow.id)
            .order_by(ErasureRow.id)
        )
        with database.reading() as session:
            return tuple(
                Erased(namespace, project, tuple(json.loads(columns)), key, erased_us)
                for namespace, project, columns, key, erased_us in session.execute(rows)
            )
    finally:
        database.close()


def erase_again(url: str, before: Iterable[Erased], clock: Clock, principal: Principal) -> tuple[Erased, ...]:
    """Write those erasures into a database that it does not know; where there are any, it is brought to this version.

    Args:
        url: SQLAlchemy's url of a database that was just restored.
        before: What the database in its place knew.
        clock: Says when.
        principal: Who restored it.

    Returns:
        Those that it did not know, or only up to an earlier time.

    Raises:
        MetadataError: The database cannot be written.
    """
    known = {one.whom: one.erased_us for one in erasures_of_all(url)}
    lost = tuple(one for one in before if one.whom not in known or known[one.whom] < one.erased_us)
    if lost:
        upgrade(url)
    for one in lost:
        with MetadataStore(url, clock, principal, project=one.project, namespace=one.namespace) as store:
            store.record_erasure(one.columns, one.key, one.erased_us)
    return lost
