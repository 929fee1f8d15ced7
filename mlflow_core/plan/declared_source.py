"""A source in Feast's registry that Feast itself cannot read: a SQL, Delta or Iceberg table, as a custom one of ours.

It only carries the declaration (in its proto) and the names of the time columns. Reading is done by
``mlflow_core.sources`` from the view's declaration; Feast's own offline stores cannot use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.type_map import pa_to_feast_value_type
from feast.value_type import ValueType

from mlflow_core.errors import SourceError
from mlflow_core.spec import IcebergSource, Source, SqlSource, source_from_json

__all__ = ["DeclaredDataSource"]


class DeclaredDataSource(DataSource):
    """A source of ours as Feast's registry holds it.

    Args:
        spec: The declaration.
        tags: Feast's tags.
    """

    def __init__(self, spec: Source, tags: dict[str, str] | None = None) -> None:
        super().__init__(
            name=spec.name,
            timestamp_field=spec.event_time,
            created_timestamp_column=spec.created or "",
            description=spec.description,
            tags=tags or {},
            owner=spec.owner,
        )
        self.spec = spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeclaredDataSource) and (self.spec, self.tags) == (other.spec, other.tags)

    def __hash__(self) -> int:
        return hash((self.name, self.timestamp_field))

    def source_type(self) -> Any:
        """Return Feast's number for sources that it does not know."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> DeclaredDataSource:
        """Read it back from the registry."""
        text = data_source.custom_options.configuration
        return DeclaredDataSource(source_from_json(text), dict(data_source.tags))

    def _to_proto_impl(self) -> DataSourceProto:
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{type(self).__module__}.{type(self).__name__}",
            custom_options=DataSourceProto.CustomSourceOptions(configuration=self.spec.canonical_json()),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Accept it: ``mlcore apply`` has read its schema before anything reaches Feast."""

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """Return the mapping of Arrow's type names, which is what ``mlflow_core.sources`` gives."""
        return pa_to_feast_value_type

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:  # noqa: ARG002 (Feast's signature)
        """Refuse: types are in the declaration of the view.

        Raises:
            SourceError: Always.
        """
        raise SourceError(
            "Feast asked for the columns of a source that only mlflow_core reads", object=self.spec.title
        )

    def get_table_query_string(self) -> str:
        """Return the table, the query in brackets, or where the table is."""
        if isinstance(self.spec, SqlSource):
            return self.spec.table or f"({self.spec.query})"
        return self.spec.table if isinstance(self.spec, IcebergSource) else self.spec.path
