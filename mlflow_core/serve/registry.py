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
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandMessage
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryMessage
from feast.repo_config import RepoConfig

from mlflow_core.errors import RegistryError
from mlflow_core.feast.transaction import shown_registry

__all__ = ["RegistryReader", "Snapshot"]

_Message = TypeVar("_Message", ServiceMessage, ViewMessage, OnDemandMessage)


@dataclass(frozen=True)
class Snapshot:
    """The registry's content at one moment, for one project.

    Attributes:
        services: Feature services by name.
        views: Feature views by name.
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
            return (
                self._rows(connection, feast_tables.feature_services, "feature_service", ServiceMessage),
                self._rows(connection, feast_tables.feature_views, "feature_view", ViewMessage),
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

        return mine(whole.feature_services), mine(whole.feature_views), mine(whole.on_demand_feature_views)


def _reached(views: Mapping[str, ViewMessage]) -> dict[str, int]:
    ends = {
        name: [one.end_time.ToMicroseconds() for one in view.meta.materialization_intervals]
        for name, view in views.items()
    }
    return {name: max(some) for name, some in ends.items() if some}
