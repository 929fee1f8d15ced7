"""Stored times that are no dates: the store's fault, so that nobody is told that the request is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pyarrow as pa
import pytest

from mlflow_core.errors import StoredRowError
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.write import EVENT_TIME, packed_rows
from mlflow_core.serve.app import Application
from mlflow_core.serve.run import Served, application
from mlflow_core.serve.stamps import stamp
from tests.serve.pushed_shop import pushed_project
from tests.serve.shop import NOW, TIME, running

FAR = 2**60  # microseconds: the year 38,505


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Application:
    return application(Served(str(pushed_project(tmp_path_factory.mktemp("far"), "far_shop")), clock=NOW))


@pytest.fixture(scope="module")
def till(app: Application) -> Iterator[httpx.Client]:
    with running(app) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        yield client


def stored(app: Application, till: int, *, opened: int, at: int) -> None:
    """Write a row of ``till_state`` as no push of ours would."""
    view, schema = app._features.catalogue.view("till_state")
    rows = pa.table(
        {
            "till_id": pa.array([till], pa.int64()),
            "rating": [4.5],
            "clerk": ["bob"],
            "items": pa.array([[1]], pa.list_(pa.int64())),
            "opened": pa.array([opened], pa.int64()).cast(TIME),
            EVENT_TIME: pa.array([at], pa.int64()).cast(TIME),
        }
    )
    _, packed = packed_rows(view, rows, at, schema)
    assert app._features.store.write(OnlineTable("till_state", ("till_id",)), packed) == 1


@pytest.mark.parametrize("which", ["opened", "at"])
def test_a_stored_time_that_is_no_date_is_503_and_names_the_store(
    app: Application, till: httpx.Client, which: str
) -> None:
    number = 1 if which == "opened" else 2
    stored(app, number, **{"opened": 0, "at": 1_700_000_000_000_000, which: FAR})
    compact = {"service": "tills", "entities": [{"till_id": number}], "event_timestamps": True}
    feast = {"feature_service": "tills", "entities": {"till_id": [number]}}

    for answer in (till.post("/v1/features", json=compact), till.post("/get-online-features", json=feast)):
        assert (answer.status_code, answer.json()["degraded"]) == (503, "store"), answer.text
        assert "outside the years 1 to 9999" in answer.json()["error"]
        assert "None" not in answer.json()["error"]


def test_a_stamp_of_no_date_is_the_stores_fault() -> None:
    with pytest.raises(StoredRowError, match="outside the years"):
        stamp(FAR)
