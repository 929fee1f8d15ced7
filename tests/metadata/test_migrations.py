"""Migrations of databases with data in them: from every earlier revision, on both databases, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Double,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    create_engine,
    func,
    insert,
    select,
)

from mlflow_core.config import FixedClock, Principal
from mlflow_core.metadata import MetadataStore, check, upgrade
from mlflow_core.metadata.audit import append
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.health import examine
from mlflow_core.metadata.upgrade import MIGRATIONS, revisions

ROWS = 3
ADA = Principal("ada")
STATES = {"mlcore_alerts": "open", "mlcore_deployments": "running"}


def at_revision(url: str, revision: str) -> None:
    moved(url, command.upgrade, revision)


def moved(url: str, way: Callable[[Config, str], None], revision: str) -> None:
    database = Database(url)
    database.make_ready()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with database.connecting(write=True) as connection:
        config.attributes["connection"] = connection
        way(config, revision)
    database.close()


def filled(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Write rows into every table as it is now; return what is in all of them."""
    database = Database(url)
    with database.writing() as session:
        for number in range(ROWS):
            append(session, FixedClock(number), ADA, "name-1/name-1", "test", f"thing:{number}", {})
    database.close()
    engine, found = create_engine(url), MetaData()
    with engine.begin() as connection:
        found.reflect(connection)
        given: dict[str, list[dict[str, Any]]] = {"mlcore_audit": [{"seq": n} for n in range(1, ROWS + 1)]}
        for table in found.sorted_tables:
            if table.name not in ("mlcore_audit", "mlcore_audit_head", "mlcore_version"):
                given[table.name] = [row_of(table, number, given) for number in range(1, ROWS + 1)]
                connection.execute(insert(table), given[table.name])
                if connection.dialect.name == "postgresql":
                    after_the_last(connection, table)
    engine.dispose()
    return contents(url, found)


def row_of(table: Table, number: int, given: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in table.columns:
        parents = [key for key in column.foreign_keys if key.column.table is not table]
        if parents:
            of = parents[0].column
            row[column.name] = given[of.table.name][number - 1][of.name]
        elif column.foreign_keys:
            row[column.name] = None if number == 1 else given.get(table.name, [{}])[0].get("id")
        elif column.name == "state":
            state = STATES.get(table.name, "succeeded")
            row[column.name] = {"n": number} if isinstance(column.type, JSON) else state
        else:
            row[column.name] = value_of(column.name, column.type, number)
    return row


def value_of(name: str, kind: Any, number: int) -> Any:
    if isinstance(kind, JSON):
        return {"n": number, "text": "é"}
    if isinstance(kind, Boolean):
        return number % 2 == 0
    if isinstance(kind, Double | Float):
        return number / 8
    if isinstance(kind, LargeBinary):
        return bytes([number, 0, 255])
    return number if isinstance(kind, Integer) else f"{name}-{number}"


def after_the_last(connection: Connection, table: Table) -> None:
    """Let PostgreSQL give numbers after those that were written."""
    if "id" in table.c and isinstance(table.c.id.type, Integer):
        sequence = func.pg_get_serial_sequence(table.name, "id")
        connection.execute(select(func.setval(sequence, ROWS)))


def contents(url: str, tables: MetaData) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of these tables in these columns."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted((tuple(row) for row in connection.execute(select(*table.columns))), key=repr)
            for table in tables.sorted_tables
            if table.name != "mlcore_version"
        }
    engine.dispose()
    return found


@pytest.mark.parametrize("revision", revisions()[:-1])
def test_every_row_of_an_earlier_revision_survives_and_can_be_read(empty_url: str, revision: str) -> None:
    at_revision(empty_url, revision)
    before = filled(empty_url)
    assert len(before) > 20
    assert all(before.values())
    tables = MetaData()
    engine = create_engine(empty_url)
    tables.reflect(engine)
    engine.dispose()

    assert upgrade(empty_url).revision == revision

    assert check(empty_url).state == "current"
    assert contents(empty_url, tables) == before
    health = examine(empty_url)
    assert health.ok, health.problems
    with MetadataStore(empty_url, FixedClock(9), ADA, project="name-1", namespace="name-1") as store:
        run = store.get_run("id-1")
        assert (run.pipeline, run.tags, run.cancel_requested_us) == (
            "pipeline-1",
            {"n": 1, "text": "é"},
            None if revision < "0003" else 1,
        )
        assert [step.name for step in store.list_steps("id-1")] == ["name-1"]
        assert store.get_metrics("id-1")[0].value == 1 / 8
        assert store.latest_metrics(["id-1"])["id-1"]["name-1"].step == 1
        assert len(store.audit_entries()) == ROWS
        store.log_metrics("id-1", {"auc": 0.5}, step=2)
        store.record_audit("test", "after")
        assert store.audit_verify().rows == ROWS + 1


def test_the_last_step_of_each_metric_is_found_in_what_was_logged_before(empty_url: str) -> None:
    at_revision(empty_url, "0002")
    tables, engine = MetaData(), create_engine(empty_url)
    filled(empty_url)
    tables.reflect(engine)
    steps = [("auc", 1, 0.5), ("auc", 3, None), ("auc", 2, 0.7), ("loss", 0, 2.0)]
    with engine.begin() as connection:
        connection.execute(
            insert(tables.tables["mlcore_metrics"]),
            [{"run_id": "id-2", "name": n, "step": s, "value": v, "at_us": 7} for n, s, v in steps],
        )
    engine.dispose()

    upgrade(empty_url)

    with MetadataStore(empty_url, FixedClock(9), ADA, project="name-2", namespace="name-2") as store:
        latest = store.latest_metrics(["id-2"])["id-2"]
        assert {name: one.step for name, one in latest.items()} == {"auc": 3, "loss": 0, "name-2": 2}
        assert latest["auc"].value != latest["auc"].value  # not a number, as it was


def test_a_failed_migration_leaves_the_revision_and_every_row(empty_url: str) -> None:
    at_revision(empty_url, "0002")
    before = filled(empty_url)
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE mlcore_latest_metrics (mine INTEGER)")
    with pytest.raises(Exception, match="mlcore_latest_metrics"):
        upgrade(empty_url)
    tables = MetaData()
    tables.reflect(engine, only=lambda name, _: name != "mlcore_latest_metrics")
    engine.dispose()
    assert check(empty_url).revision == "0002"
    assert contents(empty_url, tables) == before
    assert "cancel_requested_us" not in tables.tables["mlcore_runs"].columns


def test_a_step_down_and_up_again_keeps_what_was_there_before(empty_url: str) -> None:
    earlier, last = "0002", revisions()[-1]
    at_revision(empty_url, earlier)
    before, tables, engine = filled(empty_url), MetaData(), create_engine(empty_url)
    tables.reflect(engine)
    indexes = {one.name for table in tables.sorted_tables for one in table.indexes}
    upgrade(empty_url)
    with MetadataStore(empty_url, FixedClock(9), ADA, project="name-1", namespace="name-1") as store:
        store.log_metrics("id-1", {"name-1": 0.5}, step=7)
        store.log_metrics("id-1", {"name-1": 0.4}, step=6)

    moved(empty_url, command.downgrade, earlier)

    assert check(empty_url).revision == earlier
    again = MetaData()
    again.reflect(engine)
    assert {name: set(table.c.keys()) for name, table in again.tables.items()} == {
        name: set(table.c.keys()) for name, table in tables.tables.items()
    }
    assert {one.name for table in again.sorted_tables for one in table.indexes} == indexes
    after = contents(empty_url, tables)
    assert len(after.pop("mlcore_metrics")) == len(before.pop("mlcore_metrics")) + 2
    assert after == before
    assert upgrade(empty_url).revision == earlier
    assert check(empty_url).revision == last
    with MetadataStore(empty_url, FixedClock(9), ADA, project="name-1", namespace="name-1") as store:
        assert store.latest_metrics(["id-1"])["id-1"]["name-1"].step == 7
    assert examine(empty_url).ok
    engine.dispose()
