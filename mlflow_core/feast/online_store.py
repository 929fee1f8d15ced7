"""Feast's plug point for online features: ``online_store.type: mlflow_core.feast.online_store.PackedOnlineStore``.

Thin: Feast's values become packed rows and back, and requests go to the shared reader (``online.answer``). What a
row is, which version wins and what a missing value means is decided there, so Feast's API, the command line and
the server answer alike.

In ``feature_store.yaml``::

    online_store:
      type: mlflow_core.feast.online_store.PackedOnlineStore
      backend: sqlite           # or redis, postgres
      path: data/online.db      # of SQLite, relative to the feature repository
      connection: null          # of Redis and PostgreSQL: redis://..., postgresql://...; ${NAME} is the environment's
      clock: system             # or 2013-11-15T12:30Z, -30d, from:2013-11-15T12:00Z
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from feast import Entity, FeatureService, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.online_response import OnlineResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr, field_validator

from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.config.clock import Clock, parse_clock
from mlflow_core.config.times import parse_time
from mlflow_core.errors import StoreError
from mlflow_core.feast.erasures import erasures_of
from mlflow_core.feast.online_backends import BackendName, opened_backend
from mlflow_core.feast.online_request import columns_of
from mlflow_core.feast.online_response import LazyOnlineResponse
from mlflow_core.feast.ready_requests import ReadyRequests
from mlflow_core.feast.stored_view import (
    read_of_stored,
    schema_of_stored,
    stored_codec,
    stored_view,
    was_unseen,
)
from mlflow_core.feast.values import from_value, to_value
from mlflow_core.online.answer import Status
from mlflow_core.online.backend import OnlineBackend, OnlineTable, Row
from mlflow_core.online.erasing import unerased
from mlflow_core.online.keys import encode_key, key_value
from mlflow_core.online.layout import table_of
from mlflow_core.online.reader import Reader
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.spec import DType

__all__ = ["PackedOnlineStore", "PackedOnlineStoreConfig", "open_backend"]

WriteBatch = list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """The ``online_store`` section of ``feature_store.yaml``.

    Attributes:
        type: This store.
        backend: Where rows are kept.
        path: The SQLite file, relative to the feature repository.
        connection: The address of Redis or PostgreSQL.
        clock: What time it is for TTL and erasure; see ``config.clock.parse_clock``.
        timeout_s: How long to wait for the store.
    """

    type: Literal["mlflow_core.feast.online_store.PackedOnlineStore"] = (
        "mlflow_core.feast.online_store.PackedOnlineStore"
    )
    backend: BackendName = "sqlite"
    path: StrictStr = "data/online.db"
    connection: StrictStr | None = None
    clock: StrictStr = "system"
    timeout_s: float = 10.0

    @field_validator("clock")
    @classmethod
    def _is_a_clock(cls, text: str) -> str:
        parse_clock(text)
        return text


def open_backend(config: RepoConfig, clock: Clock | None = None) -> OnlineBackend:
    """Open the backend that a Feast configuration names, for its project.

    Args:
        config: Feast's configuration, with a ``PackedOnlineStoreConfig``.
        clock: Says when a key is erased; by default the configured clock.

    Raises:
        ConfigError: The address of the store is missing.
        StoreError: The configuration names another online store.
    """
    section = config.online_store
    if not isinstance(section, PackedOnlineStoreConfig):
        raise StoreError(
            f"the configured online store is {type(section).__name__}",
            place="feature_store.yaml",
            expected="online_store.type: mlflow_core.feast.online_store.PackedOnlineStore",
        )
    path = Path(section.path)
    if not path.is_absolute() and config.repo_path is not None:
        path = Path(config.repo_path) / path
    return opened_backend(
        section.backend,
        project=config.project,
        clock=clock or parse_clock(section.clock),
        timeout_s=section.timeout_s,
        path=path,
        connection=section.connection,
    )


class PackedOnlineStore(OnlineStore):
    """Feast's online store on packed rows; see the module for its configuration."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: dict[tuple[str, str, str], tuple[OnlineBackend, Clock]] = {}
        self._requests = ReadyRequests()

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Reads and writes have async twins, which run in a thread."""
        return SupportedAsyncMethods(read=True, write=True)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: WriteBatch,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows as Feast hands them over (``push``, ``write_to_online_store``, its own engines).

        A row's version is (event time, created time): it neither replaces a greater version nor is lost to a
        smaller one. Rows with a null key, and those of erased entities from before it, are left out.

        Raises:
            MetadataError: The list of erased entities cannot be read.
            StoreError: A value does not fit its feature's type, or the store cannot be written.
        """
        place, rows = _packed_rows(table, data)
        self._backend(config)[0].write(place, unerased(place, rows, erasures_of(config)))
        if progress is not None:
            progress(len(data))

    def backend(self, config: RepoConfig) -> OnlineBackend:
        """Return the backend that rows are kept in, opened once for a configuration."""
        return self._backend(config)[0]

    def clock(self, config: RepoConfig) -> Clock:
        """Return the clock at which this store answers."""
        return self._backend(config)[1]

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: WriteBatch,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows in a thread; see ``online_write_batch``."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Read keys of one view.

        Returns:
            For each key its event time and its features' values, not set where they are null or too old; two
            Nones for an unknown key.
        """
        wanted = requested_features or [field.name for field in table.features]
        read = read_of_stored(table, wanted, full_feature_names=False)
        # Feast has already renamed aliased join keys back to the view's own.
        read = replace(read, keys=tuple((key, key) for key in read.view.keys))
        keys = [dict(zip(key.join_keys, key.entity_values, strict=True)) for key in entity_keys]
        rows = {name: [from_value(key[name]) for key in keys] for name in read.view.keys}
        plan = RetrievalPlan((read,), (), read.features)
        backend, clock = self._backend(config)
        if not read.view.keys:
            rows = {"any": [None] * len(entity_keys)}  # tells how many rows there are
        found = Reader(plan, {table.name: schema_of_stored(table)}).answer(
            rows, backend=backend, now_us=clock.now_us()
        )
        dtypes = {name: dtype_of_arrow(name, kind) for name, kind in found.types.items()}
        results: list[tuple[datetime | None, dict[str, Value] | None]] = []
        for i in range(len(entity_keys)):
            if all(found.statuses[name][i] is Status.NOT_FOUND for name in read.features):
                results.append((None, None))
                continue
            times = [time for name in read.features if (time := found.event_times[name][i]) is not None]
            values = {name: to_value(found.columns[name][i], dtypes[name], name) for name in read.features}
            results.append((_moment(max(times)) if times else None, values))
        return results

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Read keys of one view in a thread; see ``online_read``."""
        return await asyncio.to_thread(self.online_read, config, table, entity_keys, requested_features)

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: list[dict[str, Any]] | Mapping[str, Sequence[Any] | Sequence[Value] | RepeatedValue],
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Answer entity rows with features of any number of views, in one read of the store.

        Returns:
            Feast's response: entity columns, then the features in the order asked for, with statuses PRESENT,
            NULL_VALUE, NOT_FOUND and OUTSIDE_MAX_AGE as they are.

        Raises:
            ServeError: An entity or request column is missing, or holds a value of a wrong type.
            StoreError: The store cannot be read, or holds rows of another definition of the view.
        """
        request, reader = self._requests.ready(features, registry, project, full_feature_names)
        self._check_versioned_read_support(request.tables)  # type: ignore[no-untyped-call]
        columns = columns_of(entity_rows, request)
        backend, clock = self._backend(config)
        found = reader.answer(columns, backend=backend, now_us=clock.now_us())
        return LazyOnlineResponse(
            request, found, columns, version_metadata=include_feature_view_version_metadata
        )

    async def get_online_features_async(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: list[dict[str, Any]] | Mapping[str, Sequence[Any] | Sequence[Value] | RepeatedValue],
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Answer entity rows in a thread; see ``get_online_features``."""
        return await asyncio.to_thread(
            self.get_online_features,
            config,
            features,
            entity_rows,
            registry,
            project,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Drop views that are gone and make the applied definitions the current ones.

        Raises:
            StoreError: A view has a feature of a type that cannot be stored, the store cannot be written, or Feast's
                command deletes views of ours, which it does not see: their rows are kept.
        """
        current = {
            table_of(stored_view(table)): stored_codec(table).schema_hash
            for table in tables_to_keep
            if getattr(table, "write_to_online_store", True)
        }
        backend, _ = self._backend(config)
        kept = {place.view for place in current}
        unseen = [table.name for table in tables_to_delete if was_unseen(table)]
        gone = [table.name for table in tables_to_delete if table.name not in {*kept, *unseen}]
        if gone:
            backend.drop(gone)
        for place, schema_hash in current.items():
            backend.declare(place, schema_hash)
        if unseen:
            raise StoreError(
                "feast apply sees only Feast's own objects, and so has removed from the registry what mlcore apply "
                f"wrote (feature views {', '.join(sorted(unseen))} and what belongs to them)",
                expected="mlcore apply, which applies both",
                hint="Run: mlcore apply. It puts everything back; the online rows were kept.",
            )

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Remove every row of this project, and nothing of others that share the store."""
        self._backend(config)[0].drop()

    async def close(self) -> None:
        """Release connections."""
        with self._lock:
            for backend, _ in self._opened.values():
                backend.close()
            self._opened.clear()

    def _backend(self, config: RepoConfig) -> tuple[OnlineBackend, Clock]:
        """Return the one backend and clock of a configuration: a running clock must start only once."""
        section = config.online_store
        opened = (config.project, str(config.repo_path), section.model_dump_json())
        with self._lock:
            if opened not in self._opened:
                clock = parse_clock(section.clock)
                self._opened[opened] = (open_backend(config, clock), clock)
            return self._opened[opened]


def _packed_rows(table: Any, data: WriteBatch) -> tuple[OnlineTable, list[Row]]:
    codec, schema, view = stored_codec(table), schema_of_stored(table), stored_view(table)
    types = {name: dtype_of_arrow(name, schema.field(name).type) for name in view.keys}
    keys = [_key(table.name, types, key) for key, _, _, _ in data]
    columns = {
        name: _array([values.get(name) for _, values, _, _ in data], dtype, name)
        for name, dtype in zip(codec.names, codec.dtypes, strict=True)
    }
    times = np.array([parse_time(time) for _, _, time, _ in data], np.int64)
    created = np.array([0 if one is None else parse_time(one) for _, _, _, one in data], np.int64)
    values = codec.encode(pa.table(columns), times, created, pa.array(times) if codec.timed else None)
    return table_of(view), [(key, value) for key, value in zip(keys, values, strict=True) if key is not None]


def _key(view: str, types: Mapping[str, DType], key: EntityKey) -> bytes | None:
    given = dict(zip(key.join_keys, key.entity_values, strict=True))
    values = []
    for name, dtype in types.items():
        if name not in given:
            raise StoreError(f'a row to be written has no key "{name}"', object=f'FeatureView "{view}"')
        value = key_value(from_value(given[name]), dtype, name)
        if value is None:
            return None
        values.append(value)
    return encode_key(values)


def _array(values: list[Value | None], dtype: DType, name: str) -> pa.Array:
    plain = [None if value is None else from_value(value) for value in values]
    try:
        if dtype.item is DType.TIMESTAMP:
            kind = pa.int64() if dtype is DType.TIMESTAMP else pa.list_(pa.int64())
            return pa.array(plain, kind).cast(arrow_type(dtype))
        return pa.array(plain, arrow_type(dtype))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise StoreError(f'feature "{name}": {error}', expected=str(dtype)) from error


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
