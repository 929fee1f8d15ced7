"""Entity rows in every form, and everything that can be wrong with them: a defined result or one clear error."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.errors import UsageError
from mlflow_core.feast.entity_rows import EntityRows, entity_rows

NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999)


def times_of(entity_df: object, folder: Path = Path()) -> list[datetime | None]:
    rows = entity_rows(entity_df, repo_path=str(folder))
    table = rows.table()
    assert table.schema.field(rows.time_column).type == pa.timestamp("us", "UTC")
    return table[rows.time_column].to_pylist()


def frame(times: object, **further: object) -> pd.DataFrame:
    return pd.DataFrame({"customer": range(len(times)), "event_timestamp": times, **further})


def objects(*times: object) -> pd.DataFrame:
    return frame(pd.Series(times, dtype=object))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            objects(
                NOON, NOON.astimezone(NEW_YORK), NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
            ),
            [NOON] * 3,
            id="zones mixed in one column",
        ),
        pytest.param(
            objects(NOON.replace(tzinfo=None), NOON.astimezone(NEW_YORK)), [NOON] * 2, id="naive beside aware"
        ),
        pytest.param(
            objects(
                pd.Timestamp(NOON), "2024-03-01T12:00Z", "2024-03-01 07:00:00-05:00", "2024-03-01T12", NOON
            ),
            [NOON] * 5,
            id="text beside times",
        ),
        pytest.param(
            objects(date(2024, 3, 1), "2024-03-01"),
            [NOON - timedelta(hours=12)] * 2,
            id="dates are midnights",
        ),
        pytest.param(
            objects(NOON, pd.NaT, None, float("nan"), pd.NA), [NOON, None, None, None, None], id="nothing"
        ),
        pytest.param(objects(LAST, LAST.replace(tzinfo=UTC)), [LAST.replace(tzinfo=UTC)] * 2, id="year 9999"),
        pytest.param(
            frame(pd.Series([LAST], dtype="datetime64[us]")),
            [LAST.replace(tzinfo=UTC)],
            id="year 9999 of numpy",
        ),
        pytest.param(
            frame(pd.array(np.array([-1, 1999], "datetime64[ns]"))),
            [datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(1970, 1, 1, 0, 0, 0, 1, UTC)],
            id="nanoseconds are floored, before 1970 too",
        ),
        pytest.param(frame(pd.Categorical([NOON, NOON])), [NOON] * 2, id="a category of times"),
        pytest.param(
            frame(["2024-03-01T12:00:00.0000019Z"]),
            [NOON + timedelta(microseconds=1)],
            id="text below microseconds",
        ),
        pytest.param(
            pa.table({"event_timestamp": pa.array([19783], pa.date32())}),
            [NOON - timedelta(hours=12)],
            id="an arrow date",
        ),
    ],
)
def test_times_are_moments_in_utc_whatever_they_come_as(given, expected):
    assert times_of(given) == expected


def test_local_times_around_the_end_of_daylight_saving_are_the_moments_that_their_zone_says():
    """01:30 comes twice on that night; as UTC they are an hour apart, also where pandas holds them."""
    twice = [datetime(2023, 11, 5, 1, 30, fold=fold, tzinfo=NEW_YORK) for fold in (0, 1)]
    expected = [datetime(2023, 11, 5, hour, 30, tzinfo=UTC) for hour in (5, 6)]
    assert times_of(objects(*twice)) == expected
    assert times_of(frame(pd.DatetimeIndex(expected).tz_convert("America/New_York"))) == expected


def test_a_naive_local_time_is_utc_and_not_the_machines_zone(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert times_of(objects(datetime(2024, 3, 1, 12))) == [NOON]
        assert times_of("SELECT TIMESTAMP '2024-03-01 12:00:00' AS event_timestamp") == [NOON]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (frame([1, 2]), r'column "event_timestamp" of the entity rows has type int64. Expected times'),
        (
            frame(["2024-03-01", "soon"]),
            r"row 1 of column \"event_timestamp\" of the entity rows is no time: 'soon'",
        ),
        (objects(NOON, {"a": 1}), r"row 1 of column \"event_timestamp\" .* is no time: \{'a': 1\}"),
        (objects(NOON, 7), r"row 1 of .* is no time: 7"),
        (frame([NOON, NOON], customer=[1, "one"]), r"entity rows cannot be read: .*customer"),
        (frame([NOON, NOON], customer=[object(), None]), r"entity rows cannot be read: .*customer"),
        (frame([NOON], big=[2**70]), r"entity rows cannot be read: .*"),
        (
            pd.DataFrame([[1, 2, NOON]], columns=["customer", "customer", "event_timestamp"]),
            r"more than one column 'customer'",
        ),
        (pa.table([[1], [2]], names=["customer", "customer"]), r"more than one column 'customer'"),
        (
            pd.DataFrame({"event_timestmp": [1]}),
            r'no column "event_timestamp".*Did you mean "event_timestmp"',
        ),
        (
            pd.DataFrame({"opened": [NOON], "closed": [NOON]}),
            r'no column "event_timestamp" \(columns of times: opened, closed\)',
        ),
        (pd.DataFrame(), r'no column "event_timestamp"'),
        ([1, 2], "entity_df is a list"),
        ("nothing.parquet", r"cannot be read from nothing.parquet"),
        ("events", r"cannot be read from events"),
        ("SELECT 1 AS customer", r'no column "event_timestamp"'),
        ("SELECT * FROM 'nothing.parquet'", "cannot be selected"),
        ("", "the statement gives no rows"),
        ("-- only a comment", "the statement gives no rows"),
        ("CREATE TABLE t (i INTEGER)", 'no column "event_timestamp"'),
        ("SELECT FROM WHERE", "cannot be selected"),
    ],
)
def test_what_is_no_entity_rows_is_refused_in_one_sentence(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        entity_rows(given, repo_path=str(tmp_path)).table()


def test_a_time_beyond_64_bits_of_microseconds_is_refused():
    seconds = pa.table({"event_timestamp": pa.array([2**60], pa.int64()).cast(pa.timestamp("s"))})
    with pytest.raises(UsageError, match="beyond the reach of microseconds in 64 bits"):
        entity_rows(seconds, repo_path=".")


def test_a_statement_does_not_see_variables_of_this_process(tmp_path):
    repo_path = str(tmp_path)
    statement = frame([NOON])
    assert len(statement) == 1
    with pytest.raises(UsageError, match="cannot be selected"):
        entity_rows("SELECT * FROM statement", repo_path=repo_path)


def write(path: Path, start: int, rows: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [NOON + timedelta(hours=start + hour) for hour in range(rows)]
    pq.write_table(
        pa.table(
            {
                "customer": range(start, start + rows),
                "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            }
        ),
        path,
    )


@pytest.mark.parametrize(
    "path", ["rows", "rows/", "rows/*.parquet", "{here}/rows", "my rows", Path("rows"), Path("my rows")]
)
def test_files_folders_and_globs_are_read_in_the_order_of_their_names(tmp_path, path):
    for folder in ("rows", "my rows"):
        write(tmp_path / folder / "b.parquet", 4)
        write(tmp_path / folder / "a.parquet", 0)
    given = path if isinstance(path, Path) else path.format(here=tmp_path)
    rows = entity_rows(given, repo_path=str(tmp_path))
    assert rows.table()["customer"].to_pylist() == list(range(8))


def test_how_many_rows_files_hold_and_of_which_times_is_told_without_reading_them(tmp_path, monkeypatch):
    write(tmp_path / "rows" / "a.parquet", 0)
    write(tmp_path / "rows" / "b.parquet", 4)
    rows = entity_rows("rows", repo_path=str(tmp_path))
    for file in (tmp_path / "rows").iterdir():
        footer = file.read_bytes()[-4096:]
        assert footer.endswith(b"PAR1")
        file.chmod(0)
    monkeypatch.setattr(EntityRows, "table", lambda rows: pytest.fail("the rows were read"))

    told = rows.estimate()
    first = int(NOON.timestamp()) * 1_000_000
    assert (told.rows, told.span, told.exact) == (8, (first, first + 7 * 3_600_000_000), True)


def test_a_query_is_run_when_its_rows_are_needed_and_only_once(tmp_path):
    write(tmp_path / "rows.parquet", 0)
    rows = entity_rows("SELECT * FROM 'rows.parquet' WHERE customer > 1", repo_path=str(tmp_path))
    write(tmp_path / "rows.parquet", 10)
    assert rows.table()["customer"].to_pylist() == [10, 11, 12, 13]
    write(tmp_path / "rows.parquet", 20)
    assert rows.table()["customer"].to_pylist() == [10, 11, 12, 13]


def test_a_dask_frame_keeps_its_order_and_may_hold_times_as_objects():
    import dask.dataframe

    whole = objects(*(NOON.astimezone(zone) for zone in (UTC, NEW_YORK, UTC, NEW_YORK)))
    lazy = dask.dataframe.from_pandas(whole, npartitions=2, sort=False)
    assert times_of(lazy) == [NOON] * 4
    assert entity_rows(lazy, repo_path=".").table()["customer"].to_pylist() == [0, 1, 2, 3]


def test_no_rows_at_all_keep_their_columns(tmp_path):
    for empty in (
        objects(),
        frame(pd.Series([], dtype="datetime64[ns, UTC]")),
        "SELECT 1 AS customer, now() AS event_timestamp LIMIT 0",
    ):
        rows = entity_rows(empty, repo_path=str(tmp_path))
        assert (rows.table().num_rows, rows.table().column_names) == (0, ["customer", "event_timestamp"])
        assert rows.estimate().span is None
