"""The metadata store: what happened, for one project, by one principal. The only door to the database.

Its methods are grouped in this room's other modules; each one is one transaction.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from mlflow_core.config.clock import Clock
from mlflow_core.config.principal import Principal
from mlflow_core.metadata.applies import Applies
from mlflow_core.metadata.audit import AuditLog
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.datasets import Datasets
from mlflow_core.metadata.drivers import Drivers
from mlflow_core.metadata.erasures import ErasureList
from mlflow_core.metadata.foreign import ForeignRuns
from mlflow_core.metadata.logged import Logged
from mlflow_core.metadata.operations import Operations
from mlflow_core.metadata.outputs import Outputs
from mlflow_core.metadata.schedules import Schedules
from mlflow_core.metadata.searching import Searching
from mlflow_core.metadata.steps import Steps
from mlflow_core.metadata.studies import Studies
from mlflow_core.metadata.tokens import Tokens
from mlflow_core.metadata.upgrade import check_database, too_new, too_old, upgrade_database


class MetadataStore(
    Drivers,
    Steps,
    Outputs,
    Searching,
    ForeignRuns,
    Logged,
    Datasets,
    Operations,
    Applies,
    Studies,
    Schedules,
    Tokens,
    ErasureList,
    AuditLog,
):
    """Runs, datasets, models, aliases, applies, materialisations, studies, monitors, schedules, tokens, ...

    An empty database gets its tables. One of an older version is left alone until ``mlcore db upgrade``.

    Args:
        url: SQLAlchemy's url, e.g. ``Settings.metadata_url()``.
        clock: Says when things happen.
        principal: Who does them; recorded with every change.
        project: Whose rows are seen and written. Other projects of the database stay out of sight.
        namespace: The team that the project belongs to.
        busy_timeout_s: How long a write waits for other writers.
        leases: What the leases of runs' drivers are counted by. The system's clock, where ``clock`` is one that may
            stand still or begin anew with each process; by default ``clock``.

    Raises:
        MetadataError: The database is locked, read-only, newer or older than this code, or unreachable.

    Example:
        >>> from mlflow_core.config import FixedClock, Principal
        >>> store = MetadataStore("sqlite://", FixedClock(0), Principal("me"))
        >>> run = store.create_run("late_arrival")
        >>> store.log_metrics(run.id, {"auc": 0.71})
        >>> store.finish_run(run.id, "succeeded").state.value
        'succeeded'
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        principal: Principal,
        *,
        project: str = "default",
        namespace: str = "default",
        busy_timeout_s: float = 30.0,
        leases: Clock | None = None,
    ) -> None:
        database = Database(url, busy_timeout_s=busy_timeout_s)
        super().__init__(database, clock, principal, namespace, project)
        self._leases = leases
        try:
            state = check_database(database)
            if state.state == "empty":
                state = upgrade_database(database)
            if state.state == "newer":
                raise too_new(state, database.shown)
            if state.state == "older":
                raise too_old(state, database)
            self._known_project()
        except BaseException:
            database.close()
            raise

    @property
    def shown_url(self) -> str:
        """The database's url without its password."""
        return self._database.shown

    def close(self) -> None:
        """Give the connections back; the store must not be used afterwards."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
