"""Where events come from: files, SQL, Delta and Iceberg tables, and which columns carry time and identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Required, TypedDict, Unpack

import orjson
from pydantic import Field, model_validator

from mlflow_core.spec.model import Named
from mlflow_core.spec.transform import Transform

__all__ = ["DeltaSource", "IcebergSource", "ParquetSource", "Source", "SqlSource", "source_from_json"]


if TYPE_CHECKING:

    class _Said(TypedDict, total=False):
        """What every source takes beside where its events are."""

        event_time: Required[str]
        known_at: str | None
        created: str | None
        event_id: str | None
        deleted: str | None
        rename: Mapping[str, str]
        transform: Transform | None
        description: str
        owner: str
        tags: Mapping[str, str]


class _Events(Named):
    event_time: str
    known_at: str | None = None
    created: str | None = None
    event_id: str | None = None
    deleted: str | None = None
    rename: dict[str, str] = {}
    transform: Transform | None = None

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
        transform: A function of ``@transform`` that makes the rows of what the files hold, after ``rename``; the
            columns named above are those that it returns.

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
            **columns: Unpack[_Said],
        ) -> None: ...


class SqlSource(_Events):
    """Events in a table or query of any database that SQLAlchemy reaches.

    Args:
        name: The source's name.
        url: SQLAlchemy URL; secrets by reference, as ``${env:DATABASE_URL}``.
        table: Table or view, optionally with its schema. Exactly one of table and query.
        query: A SELECT statement.
        event_time: As for ``ParquetSource``, like the other columns.
        split_by: Column of whole numbers or times by whose ranges workers read a large source side by side; absent
            means ``event_time`` for a table, and for a query that it is read by one worker, in its own order.
    """

    kind: Literal["sql"] = "sql"
    url: str
    table: str | None = None
    query: str | None = None
    split_by: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            url: str,
            table: str | None = None,
            query: str | None = None,
            split_by: str | None = None,
            **columns: Unpack[_Said],
        ) -> None: ...

    @model_validator(mode="after")
    def _one_of_table_and_query(self) -> SqlSource:
        if (self.table is None) == (self.query is None):
            raise ValueError('needs exactly one of "table" and "query"')
        return self


class DeltaSource(_Events):
    """Events in a Delta table; needs the extra ``delta``.

    Args:
        name: The source's name.
        path: Folder of the table; relative to the feature repository, or a URL.
        version: The version of the table to read; absent means the newest whenever it is read.
        event_time: As for ``ParquetSource``, like the other columns.
    """

    kind: Literal["delta"] = "delta"
    path: str
    version: int | None = Field(default=None, ge=0)

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            path: str,
            version: int | None = None,
            **columns: Unpack[_Said],
        ) -> None: ...


class IcebergSource(_Events):
    """Events in an Iceberg table; needs the extra ``iceberg``.

    Args:
        name: The source's name.
        table: The table with its namespace, as ``flights.departures``.
        catalog: The catalog's name, as in PyIceberg's own configuration.
        properties: The catalog's properties, which go before that configuration; secrets by reference, as
            ``${env:CATALOG_TOKEN}``. A relative SQLite file is relative to the feature repository.
        snapshot: The snapshot of the table to read; absent means the newest whenever it is read.
        event_time: As for ``ParquetSource``, like the other columns.
    """

    kind: Literal["iceberg"] = "iceberg"
    table: str
    catalog: str = "default"
    properties: dict[str, str] = {}
    snapshot: int | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            table: str,
            catalog: str = "default",
            properties: Mapping[str, str] = ...,
            snapshot: int | None = None,
            **columns: Unpack[_Said],
        ) -> None: ...


Source = Annotated[ParquetSource | SqlSource | DeltaSource | IcebergSource, Field(discriminator="kind")]


def source_from_json(text: bytes | str) -> Source:
    """Read a source of any kind back from its canonical JSON.

    Raises:
        SpecError: The text is not a declaration of the kind that it names.
    """
    kinds: dict[str, type[Source]] = {"sql": SqlSource, "delta": DeltaSource, "iceberg": IcebergSource}
    return kinds.get(orjson.loads(text).get("kind"), ParquetSource).from_json(text)
