"""Where events come from: Parquet files and SQL tables, and which of their columns carry time and identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from mlflow_core.spec.model import Named

__all__ = ["ParquetSource", "Source", "SqlSource"]


class _Events(Named):
    event_time: str
    known_at: str | None = None
    created: str | None = None
    event_id: str | None = None
    deleted: str | None = None
    rename: dict[str, str] = {}

    @model_validator(mode="after")
    def _deletes_need_identity(self) -> _Events:
        if self.deleted is not None and self.event_id is None:
            raise ValueError(
                'field "deleted" needs "event_id": a delete is a version of an event with an identity'
            )
        return self

    @property
    def clock(self) -> Literal["event", "known"]:
        """The clock of a retrieval that names none: ``known`` where ``known_at`` is declared."""
        return "event" if self.known_at is None else "known"


class ParquetSource(_Events):
    """Events in Parquet files.

    Args:
        name: The source's name.
        path: A file, a folder, a hive-partitioned folder or a glob; relative to the feature repository, or a URL.
        event_time: Column with the time at which the event happened.
        known_at: Column with the time at which the platform could first know it; absent means at once.
        created: Column that orders versions of one event; absent means ``known_at``.
        event_id: Column with the event's identity; rows of one id are versions of one event.
        deleted: Boolean column; true makes the version a delete.
        rename: Column names in the files that are called otherwise here, ``{in the file: here}``.

    Example:
        >>> ParquetSource("flights", path="data/flights.parquet", event_time="scheduled_departure").clock
        'event'
    """

    kind: Literal["parquet"] = "parquet"
    path: str

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            path: str,
            event_time: str,
            known_at: str | None = None,
            created: str | None = None,
            event_id: str | None = None,
            deleted: str | None = None,
            rename: Mapping[str, str] = ...,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...


class SqlSource(_Events):
    """Events in a table or query of any database that SQLAlchemy reaches.

    Args:
        name: The source's name.
        url: SQLAlchemy URL; secrets by reference, as ``${env:DATABASE_URL}``.
        table: Table or view, optionally with its schema. Exactly one of table and query.
        query: A SELECT statement.
        event_time: As for ``ParquetSource``, like the other columns.
    """

    kind: Literal["sql"] = "sql"
    url: str
    table: str | None = None
    query: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            url: str,
            table: str | None = None,
            query: str | None = None,
            event_time: str,
            known_at: str | None = None,
            created: str | None = None,
            event_id: str | None = None,
            deleted: str | None = None,
            rename: Mapping[str, str] = ...,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _one_of_table_and_query(self) -> SqlSource:
        if (self.table is None) == (self.query is None):
            raise ValueError('needs exactly one of "table" and "query"')
        return self


Source = Annotated[ParquetSource | SqlSource, Field(discriminator="kind")]
