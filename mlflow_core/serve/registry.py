"""What the registry holds, read as messages: no object of Feast's is made of it, so no code in it is run.

Feast keeps on-demand transformations as source text and runs that text whenever it loads one; opening its own
registry class loads everything. A server reads what other people can write, so it reads the rows and decides
itself what they mean (``catalogue``). Only the SQL and the file registry are understood.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from feast.infra.registry import sql as feast_tables
from feast.protos.feast.core.FeatureService_pb2 import FeatureService as ServiceMessage
from feast.protos.feast.core.FeatureView_pb2 import FeatureView as ViewMessage
from feast.protos.feast.core.FeatureView_pb2 import FeatureViewSpec
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandMessage
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryMessage
from feast.protos.feast.core.StreamFeatureView_pb2 import StreamFeatureView as StreamMessage
from feast.repo_config import RepoConfig

from mlflow_core.errors import RegistryError
from mlflow_core.feast.transaction import shown_registry

__all__ = ["RegistryReader", "Snapshot"]

_Message = TypeVar("_Message", ServiceMessage, ViewMessage, OnDemandMessage, StreamMessage)
_REPEATABLE_READ = ("mariadb", "mysql", "postgresql")


@dataclass(frozen=True)
class Snapshot:
    """The registry's content at one moment, for one project.

    Attributes:
        services: Feature services by name.
        views: Feature views by name, stream feature views among them.
        on_demand: On-demand feature views by name.
        digest: Changes whenever a declaration does; materialisations do not change it.
        reached: Up to when each view is materialised, microseconds since epoch, UTC; those that never were are left out.
    """

    services: Mapping[str, ServiceMessage] = field(default_factory=dict)
    views: Mapping[str, ViewMessage] = field(default_factory=dict)
    on_demand: Mapping[str, OnDemandMessage] = field(default_factory=dict)
    digest: str = ""
    reached: Mapping[str, int] = field(default_factory=dict)


class RegistryReader:
    """Reads the registry of one project, again and again, from any thread.

    Args:
        config: What ``feature_store.yaml`` says, paths resolved.

    Raises:
        RegistryError: The registry is of a kind that cannot be read without Feast's own classes.
    """

    def __init__(self, config: RepoConfig) -> None:
        self.project = config.project
        self._where = str(config.registry.path)
        self.place = shown_registry(self._where)
        self._repo = Path(config.repo_path or ".")
        self._engine: sqlalchemy.Engine | None = None
        kind = str(config.registry.registry_type)
        if kind == "sql":
            self._engine = sqlalchemy.create_engine(self._where)
        elif kind != "file":
            raise RegistryError(
                f'is of type "{kind}"',
                object=f"registry {self.place}",
                expected='registry_type "sql" or "file"',
            )

    def read(self) -> Snapshot:
        """Read everything that serving needs, as of one moment.

        Raises:
            RegistryError: It cannot be read.
            google.protobuf.message.DecodeError: A message is damaged.
        """
        try:
            found = self._from_file() if self._engine is None else self._from_tables(self._engine)
        except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            said = str(getattr(error, "orig", None) or error)
            raise RegistryError(f"cannot be read: {said}", object=f"registry {self.place}") from error
        digest = hashlib.sha256()
        kinds: tuple[Mapping[str, Any], ...] = found
        for messages in kinds:
            for name, message in sorted(messages.items()):
                digest.update(f"{type(message).__name__} {name}\n".encode())
                digest.update(message.spec.SerializeToString(deterministic=True))
        services, views, on_demand = found
        return Snapshot(services, views, on_demand, digest.hexdigest(), _reached(views))

    def close(self) -> None:
        """Close the connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _from_tables(
        self, engine: sqlalchemy.Engine
    ) -> tuple[dict[str, ServiceMessage], dict[str, ViewMessage], dict[str, OnDemandMessage]]:
        with engine.connect() as connection:
            _begin(connection)
            views = self._rows(connection, feast_tables.feature_views, "feature_view", ViewMessage)
            streams = self._rows(connection, feast_tables.stream_feature_views, "feature_view", StreamMessage)
            return (
                self._rows(connection, feast_tables.feature_services, "feature_service", ServiceMessage),
                views | _views_of(streams),
                self._rows(connection, feast_tables.on_demand_feature_views, "feature_view", OnDemandMessage),
            )

    def _rows(
        self, connection: sqlalchemy.Connection, table: sqlalchemy.Table, column: str, kind: type[_Message]
    ) -> dict[str, _Message]:
        name, data = table.c[f"{column}_name"], table.c[f"{column}_proto"]
        rows: Any = connection.execute(
            sqlalchemy.select(name, data).where(table.c.project_id == self.project)
        )
        return {name: kind.FromString(data) for name, data in rows}

    def _from_file(
        self,
    ) -> tuple[dict[str, ServiceMessage], dict[str, ViewMessage], dict[str, OnDemandMessage]]:
        whole = RegistryMessage.FromString((self._repo / self._where).read_bytes())

        def mine(messages: Any) -> dict[str, Any]:
            return {one.spec.name: one for one in messages if one.spec.project == self.project}

        views = mine(whole.feature_views) | _views_of(mine(whole.stream_feature_views))
        return mine(whole.feature_services), views, mine(whole.on_demand_feature_views)


def _begin(connection: sqlalchemy.Connection) -> None:
    """Let all that is read come from one moment: an apply may change several tables meanwhile."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")  # its driver begins none to read
    elif connection.dialect.name in _REPEATABLE_READ:
        connection.execution_options(isolation_level="REPEATABLE READ")


def _views_of(streams: Mapping[str, StreamMessage]) -> dict[str, ViewMessage]:
    """Take stream feature views as what is stored of them: latest values. Their code runs where they are written.

    Feast lists their key columns among their features, too; here a feature is what is not a key.
    """
    views = {}
    for name, one in streams.items():
        spec = FeatureViewSpec(**{f.name: value for f, value in one.spec.ListFields() if f.name in _STORED})
        keys = {column.name for column in one.spec.entity_columns}
        spec.features.extend(column for column in one.spec.features if column.name not in keys)
        views[name] = ViewMessage(spec=spec, meta=one.meta)
    return views


_STORED = frozenset(
    {
        "name", "project", "entities", "entity_columns", "description", "tags", "owner", "ttl",
        "batch_source", "stream_source", "online", "version",
    }
)  # fmt: skip


def _reached(views: Mapping[str, ViewMessage]) -> dict[str, int]:
    ends = {
        name: [one.end_time.ToMicroseconds() for one in view.meta.materialization_intervals]
        for name, view in views.items()
    }
    return {name: max(some) for name, some in ends.items() if some}
