"""What a look at a source sees: nothing new, something new, newer by enough; in files and in a database."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, NullPool, create_engine, text

from mlflow_core.errors import MetadataError, SourceError, SpecError, WorkflowError
from mlflow_core.spec import Entity, FeatureView, Fresh, ParquetSource, Schedule, SqlSource
from mlflow_core.workflow.schedule.conditions import Condition, condition_of, declared_condition
from tests.servers.postgres import server

HOUR = 3_600_000_000


def write(folder: Path, name: str, *hours: float) -> None:
    times = pa.array([int(hour * HOUR) for hour in hours], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"placed": times, "amount": [1.0] * len(hours)}), folder / f"{name}.parquet")


def orders(folder: Path) -> ParquetSource:
    return ParquetSource("orders", path=f"{folder}/*.parquet", event_time="placed")


def watched(when: Fresh, base: Path) -> Condition:
    return condition_of(declared_condition(when), str(base))


def test_what_is_there_at_the_first_look_is_no_arrival(tmp_path: Path) -> None:
    write(tmp_path, "a", 1, 2)

    seen = watched(Fresh(orders(tmp_path)), tmp_path).look(None, None)

    assert (seen.why, seen.found["newest_us"]) == (None, 2 * HOUR)
    assert "1970-01-01T02:00:00Z" in seen.told


def test_any_change_is_an_arrival_where_nothing_else_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a", 1, 2)
    condition = watched(Fresh(orders(tmp_path)), tmp_path)
    first = condition.look(None, None).found

    assert condition.look(first, first).why is None
    write(tmp_path, "a", 1, 1.5, 2)  # an old row was corrected; the newest is as it was
    assert condition.look(first, first).why == "orders has changed"


def test_newer_by_less_than_was_asked_for_waits_and_what_comes_adds_up(tmp_path: Path) -> None:
    write(tmp_path, "a", 1, 2)
    condition = watched(Fresh(orders(tmp_path), by="6h"), tmp_path)
    first = condition.look(None, None).found
    last = first
    reasons = []
    for number, hour in enumerate((5, 7.5, 8, 9)):
        write(tmp_path, f"more-{number}", hour)
        seen = condition.look(first, last)
        reasons.append(seen.why)
        last = seen.found

    assert reasons[:2] == [None, None]
    assert reasons[2:] == ["the newest event of orders is 6h newer", "the newest event of orders is 7h newer"]


def test_what_the_last_look_found_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path, "a", 1, 2)
    condition = watched(Fresh(orders(tmp_path)), tmp_path)
    found = condition.look(None, None).found
    remembered = {**found, "newest_us": 99 * HOUR}

    assert condition.look(found, remembered).found["newest_us"] == 99 * HOUR


def told(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_table_of_a_database_is_watched_too(tmp_path: Path) -> None:
    with server() as address:
        url = address.replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(url, poolclass=NullPool)
        told(engine, "CREATE TABLE orders (placed TIMESTAMPTZ, amount REAL)")
        told(engine, "INSERT INTO orders VALUES ('2024-01-01T10:00Z', 1.0)")
        source = SqlSource("orders", url=url, table="orders", event_time="placed")
        condition = watched(Fresh(source, by="1h"), tmp_path)
        first = condition.look(None, None).found
        told(engine, "INSERT INTO orders VALUES ('2024-01-01T10:30Z', 1.0)")
        second = condition.look(first, first)
        told(engine, "INSERT INTO orders VALUES ('2024-01-01T11:00Z', 1.0)")
        third = condition.look(first, second.found)

    assert (second.why, third.why) == (None, "the newest event of orders is 1h newer")


def test_a_database_that_keeps_times_as_text_tells_only_that_something_has_changed(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=NullPool)
    told(engine, "CREATE TABLE orders (placed TIMESTAMP, amount REAL)")
    told(engine, "INSERT INTO orders VALUES ('2024-01-01 10:00:00', 1.0)")
    source = SqlSource("orders", url=f"sqlite:///{tmp_path}/shop.db", table="orders", event_time="placed")
    condition = watched(Fresh(source), tmp_path)
    first = condition.look(None, None).found
    assert condition.look(first, first).why is None
    told(engine, "INSERT INTO orders VALUES ('2024-01-01 10:30:00', 1.0)")

    assert condition.look(first, first).why == "orders has changed"


def test_how_new_events_are_may_not_be_known_without_reading_them(tmp_path: Path) -> None:
    pq.write_table(pa.table({"placed": ["2024-01-01"], "amount": [1.0]}), tmp_path / "a.parquet")
    loose, strict = (watched(Fresh(orders(tmp_path), by=by), tmp_path) for by in ("0s", "1h"))
    first = loose.look(None, None).found
    pq.write_table(pa.table({"placed": ["2024-01-02"], "amount": [2.0]}), tmp_path / "b.parquet")

    assert loose.look(first, first).why == "orders has changed"
    with pytest.raises(WorkflowError, match='Leave out "by"'):
        strict.look(first, first)


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        watched(Fresh(orders(tmp_path)), tmp_path).look(None, None)


def test_a_view_stands_for_its_source(tmp_path: Path) -> None:
    view = FeatureView("spending", entity=Entity("customer"), source=orders(tmp_path), features=["amount"])

    assert declared_condition(Fresh(view)) == declared_condition(Fresh(orders(tmp_path)))


def test_a_condition_of_a_later_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match='no condition of kind "fresher"'):
        condition_of({"kind": "fresher"}, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, 'needs exactly one of "cron" and "when"'),
        ({"cron": "@daily", "when": "fresh"}, 'needs exactly one of "cron" and "when"'),
        ({"cron": "@daily", "at_least_every": "7d"}, '"at_least_every" goes with "when"'),
        ({"when": "fresh", "zone": "Europe/Berlin"}, '"zone" goes with "cron"'),
        ({"when": "fresh", "at_least_every": "5m"}, 'must be longer than "at_most_every", which is 10m'),
        ({"when": "fresh", "at_most_every": "-1h"}, "cannot be less than nothing"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_told_where_it_is_declared(
    tmp_path: Path, arguments: dict[str, str], told: str
) -> None:
    given = {name: Fresh(orders(tmp_path)) if name == "when" else value for name, value in arguments.items()}

    with pytest.raises(SpecError) as error:
        Schedule(**given)  # type: ignore[arg-type]

    assert told in str(error.value)
    assert "test_conditions.py:" in str(error.value)


@pytest.mark.parametrize(("by", "look"), [("-1s", "1m"), ("1s", "1ms")])
def test_a_condition_that_cannot_be_meant_is_told(tmp_path: Path, by: str, look: str) -> None:
    with pytest.raises(SpecError):
        Fresh(orders(tmp_path), by=by, look=look)


def test_a_schedule_with_a_condition_is_read_back_from_its_json(tmp_path: Path) -> None:
    said = Schedule(when=Fresh(orders(tmp_path), by="6h"), at_least_every="7d")

    assert Schedule.from_json(said.canonical_json()) == said
