"""What was applied, read from the rows of Feast's SQL registry without Feast, whose import takes seconds.

The fast path beside ``mlflow_core.feast.registry``: where it cannot be sure it says so, and then Feast is asked,
which also words what is wrong. ``tests/feast/test_applied.py`` holds both equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from mlflow_core.errors import MlcoreError
from mlflow_core.feast.messages import MESSAGES, columns_in, name_in, tags_in
from mlflow_core.feast.plain_config import SQLITE, PlainConfig, plain_config
from mlflow_core.plan.diff import Applied, diff
from mlflow_core.plan.project import Project
from mlflow_core.plan.stored_form import KIND_TAG, MANIFEST_TAG, SPEC_TAG, StoredForm, stored_forms

__all__ = ["Stored", "is_applied", "stored"]

_TABLES = {
    "sources": ("data_sources", "data_source_proto"),
    "views": ("feature_views", "feature_view_proto"),
    "on_demand": ("on_demand_feature_views", "feature_view_proto"),
    "services": ("feature_services", "feature_service_proto"),
}
_KEPT_BY_PROJECT = ("entities", "pipelines", "step_pipelines", "native")
_NO_COLUMN = "__dummy_id"  # Feast's stand-in for the key of what has none
_WAITS = {"pysqlite": {"timeout": 0}, "psycopg": {"connect_timeout": 2}, "psycopg2": {"connect_timeout": 2}}
"""Driver of a database -> how long it is waited for, in seconds: not long, for Feast waits anew where it must."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the registry holds.

    Attributes:
        specs: All declarations of ours; as ``registry.applied_specs`` returns them.
        forms: The rest of each view, on-demand features and service, by kind and name.
    """

    specs: Applied
    forms: Mapping[tuple[str, str], StoredForm]


def is_applied(project: Project, schemas: Mapping[str, pa.Schema], repo: Path) -> bool:
    """Say whether apply has certainly nothing to change; false also where only Feast can tell.

    Args:
        project: The loaded and checked project.
        schemas: View name -> schema; from ``check_project``.
        repo: The folder with ``feature_store.yaml``.
    """
    if project.native:
        return False
    found = stored(repo)
    if found is None or diff(found.specs, project):
        return False
    try:
        wanted = stored_forms(project, schemas)
    except MlcoreError:
        return False
    return all(found.forms.get(key) == form for key, form in wanted.items())


def stored(repo: Path) -> Stored | None:
    """Read what was applied, or return None where only Feast can tell.

    That is where the configuration is not plain, the registry is missing, locked, damaged or does not answer, or
    others than this package have written to it.

    Args:
        repo: The folder with ``feature_store.yaml``.
    """
    config = plain_config(repo)
    if config is None or not _is_there(config.registry.path):
        return None
    try:
        return _understood(_rows(config))
    except (SQLAlchemyError, ImportError, ValueError):
        return None


def _is_there(url: str) -> bool:
    # Opening a SQLite file that is not there makes one, and one in memory is empty.
    return not url.startswith("sqlite") or (
        url.startswith(SQLITE) and Path(url.removeprefix(SQLITE)).is_file()
    )


def _rows(config: PlainConfig) -> dict[str, list[bytes]]:
    url = sqlalchemy.make_url(config.registry.path)
    engine = sqlalchemy.create_engine(url, connect_args=_WAITS.get(url.get_driver_name(), {}))
    try:
        with engine.connect() as connection:
            return {
                table: [
                    _message(value)
                    for (value,) in connection.execute(_of_project(table, column, config.project))
                ]
                for table, column in (("projects", "project_proto"), *_TABLES.values())
            }
    finally:
        engine.dispose()


def _of_project(table: str, column: str, project: str) -> sqlalchemy.Select[Any]:
    rows = sqlalchemy.table(table, sqlalchemy.column(column), sqlalchemy.column("project_id"))
    return sqlalchemy.select(rows.c[column]).where(rows.c.project_id == project)


def _message(value: object) -> bytes:
    # SQLite keeps a value of any type in any column.
    if not isinstance(value, bytes | memoryview):
        raise ValueError(f"{value!r} is where a message is expected")
    return bytes(value)


def _understood(rows: Mapping[str, list[bytes]]) -> Stored | None:
    (project,) = rows["projects"]
    kept = _object(tags_in(project, MESSAGES["projects"]).get(MANIFEST_TAG, "{}"))
    specs = {kind: _objects(kept.get(kind, {})) for kind in _KEPT_BY_PROJECT}
    forms: dict[tuple[str, str], StoredForm] = {}
    for kind, (table, _) in _TABLES.items():
        layout, specs[kind] = MESSAGES[table], {}
        for message in rows[table]:
            name, tags = name_in(message, layout), tags_in(message, layout)
            if KIND_TAG not in tags:
                return None
            columns = columns_in(message, layout)
            columns.pop(_NO_COLUMN, None)
            if (
                text := tags.pop(SPEC_TAG, None)
            ) is not None:  # a request's source is Feast's, and none of ours
                specs[kind][name] = _object(text)
            forms[kind, name] = StoredForm(tags, columns)
    return Stored(specs, forms)


def _object(text: str) -> dict[str, Any]:
    """Read a JSON object, and refuse other JSON."""
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{text} is where an object is expected")
    return found


def _objects(found: Any) -> dict[str, Any]:
    """Return an object of objects as it is, and refuse others."""
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ValueError(f"{found!r} is where declarations by name are expected")
    return found
