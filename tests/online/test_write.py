"""What a materialised table becomes: the versions of its rows."""

from __future__ import annotations

import pyarrow as pa

from mlflow_core.config.clock import FixedClock
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.online.write import CREATED, EVENT_TIME, packed_rows
from mlflow_core.spec import Entity, FeatureView
from tests.online.on_demand_features import SOURCE

TIME = pa.timestamp("us", tz="UTC")
NOON = 15_000 * 24 * 3_600_000_000
SCHEMA = pa.schema([("carrier", pa.string()), ("delay", pa.float64())])


def test_a_value_corrected_at_its_own_time_is_replaced_when_all_is_written_again(tmp_path):
    backend = SqliteBackend(tmp_path / "online.db", "p", FixedClock(NOON))
    plain = FeatureView("plain", entity=Entity("carrier"), source=SOURCE, features=["delay"])

    def write(delay: float, created: int | None, sequence: int) -> int:
        columns = {"carrier": ["UA"], "delay": [delay], EVENT_TIME: pa.array([NOON]).cast(TIME)}
        if created is not None:
            columns[CREATED] = pa.array([created]).cast(TIME)
        place, rows = packed_rows(plain, pa.table(columns), NOON, SCHEMA, sequence=sequence)
        return backend.write(place, rows)

    assert write(1.0, NOON, 0) == 1, "no created in the source: the engine says it was known at its own time"
    assert write(2.0, NOON, 0) == 0
    assert write(2.0, NOON, NOON + 5) == 1
    assert write(3.0, NOON + 1, NOON + 9) == 0, (
        "a source that tells when a row was created orders its versions"
    )
    assert write(4.0, NOON + 6, 0) == 1
    assert write(5.0, None, NOON + 3) == 0
    backend.close()
