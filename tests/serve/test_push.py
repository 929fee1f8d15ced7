"""Pushes over real HTTP: what is stored, what is refused how, and that sending again is harmless."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.layout import codec_of
from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.run import Served, application
from tests.serve.pushed_shop import ARROW, BEARER, SOURCE, pushed_project, row, windows_are_pushed_to
from tests.serve.shop import NOW, TIME, at, running

STORED = {"rating": [4.5], "clerk": ["bob"], "items": [[3, 1]], "opened": ["2024-01-10T08:00:00Z"]}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pushed_project(tmp_path_factory.mktemp("pushed"), "pushed_shop")


@pytest.fixture(scope="module")
def app(pushed: Path) -> Application:
    return application(Served(str(pushed), clock=NOW, limits=Limits(refresh_s=60.0)))


@pytest.fixture(scope="module")
def till(app: Application) -> Iterator[httpx.Client]:
    with running(app) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        yield client


def push(till: httpx.Client, body: object, source: str = SOURCE, **headers: str) -> httpx.Response:
    return till.post(f"/v1/push/{source}", json=body, headers={**BEARER, **headers})


def read(till: httpx.Client, *tills: int, service: str = "tills") -> dict[str, object]:
    answer = till.post(
        "/v1/features", json={"service": service, "entities": [{"till_id": one} for one in tills]}
    )
    assert answer.status_code == 200, answer.text
    features: dict[str, object] = answer.json()["features"]
    return features


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return sink.getvalue()


def table(*tills: int) -> pa.Table:
    n = len(tills)
    return pa.table(
        {
            "till_id": pa.array(tills, pa.int32()),
            "shop_rating": pa.array([4.5] * n, pa.float32()),
            "clerk": pa.array(["bob"] * n).dictionary_encode(),
            "items": pa.array([[3, 1]] * n, pa.list_(pa.int64())),
            "opened": pa.array([at(10, 8)] * n, pa.timestamp("ns", tz="UTC")),
            "at": pa.array([at(10, 9, 30)] * n, TIME),
            "made": pa.array([at(10, 9, 31)] * n, TIME),
        }
    )


def test_a_row_is_stored_in_every_view_of_the_source_and_read_at_once(till: httpx.Client) -> None:
    answer = push(till, {"rows": [row(1)]})

    assert (answer.status_code, answer.json()) == (
        200,
        {"rows": 1, "written": 2, "views": {"till_clerk": 1, "till_state": 1}},
    )
    assert read(till, 1) == STORED
    assert read(till, 1, service="clerks") == {"clerk": ["bob"]}


def test_sending_again_or_late_changes_nothing_and_a_newer_row_does(till: httpx.Client) -> None:
    key = {"Idempotency-Key": "c0ffee"}
    first, again = push(till, {"rows": [row(2)]}, **key), push(till, {"rows": [row(2)]}, **key)
    late = push(till, {"rows": [row(2, at="2024-01-10T09:00Z", clerk="eve")]})
    corrected = push(till, {"rows": [row(2, made="2024-01-10T09:40Z", clerk="dan")]})

    assert [one.json()["written"] for one in (first, again, late, corrected)] == [2, 0, 0, 2]
    assert read(till, 2, service="clerks") == {"clerk": ["dan"]}


def test_columns_and_arrow_streams_say_the_same_as_rows(till: httpx.Client) -> None:
    columns = {name: [value] for name, value in row(3).items()}

    by_column = push(till, {"df": columns})
    headers = {**BEARER, "content-type": ARROW}
    by_stream = till.post(f"/v1/push/{SOURCE}", content=stream(table(4, 5, 6)), headers=headers)

    assert by_column.json()["written"] == 2
    assert by_stream.json() == {"rows": 3, "written": 6, "views": {"till_clerk": 3, "till_state": 3}}
    assert read(till, 3) == read(till, 5) == STORED


def test_feasts_own_push_keeps_working(till: httpx.Client) -> None:
    # As in Feast's documentation: times as Python prints them, and a column that no view has.
    df = {
        **{name: [value] for name, value in row(7).items()},
        "at": ["2024-01-10 09:30:00.000001"],
        "extra": [1],
    }
    body = {"push_source_name": SOURCE, "df": df}

    online = till.post("/push", json={**body, "to": "online", "allow_registry_cache": True}, headers=BEARER)
    offline = till.post("/push", json={**body, "to": "online_and_offline"}, headers=BEARER)

    assert (online.status_code, online.json()["written"]) == (200, 2)
    assert read(till, 7) == STORED
    assert offline.status_code == 422
    assert "online store only" in offline.json()["error"]


def test_a_null_feature_and_no_rows_are_fine(till: httpx.Client) -> None:
    assert push(till, {"rows": [row(8, clerk=None, shop_rating=None)]}).status_code == 200
    assert push(till, {"rows": []}).status_code == 422  # no rows have no columns
    assert push(till, {"df": {name: [] for name in row()}}).json() == {
        "rows": 0,
        "written": 0,
        "views": {"till_clerk": 0, "till_state": 0},
    }
    assert read(till, 8)["clerk"] == [None]


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in row().items() if key != name}


@pytest.mark.parametrize(
    ("body", "status", "name", "nearest"),
    [
        pytest.param({"rows": [row(None)]}, 422, "till_id", [], id="a null key"),
        pytest.param({"rows": [row(at=None)]}, 422, "at", [], id="a null event time"),
        pytest.param({"rows": [without("at")]}, 422, "at", [], id="no event time"),
        pytest.param({"rows": [without("made")]}, 422, "made", [], id="no created time"),
        pytest.param({"rows": [without("till_id")]}, 422, "till_id", [], id="no key"),
        pytest.param(
            {"rows": [{**without("clerk"), "clrek": "x"}]}, 422, "clrek", ["clerk"], id="an unknown column"
        ),
        pytest.param({"rows": [row(), without("clerk")]}, 422, "clerk", [], id="a column that one row lacks"),
        pytest.param({"rows": [row(1), row("two")]}, 422, "till_id", [], id="keys of mixed types"),
        pytest.param({"rows": [row(shop_rating="good")]}, 422, "shop_rating", [], id="text as a number"),
        pytest.param({"rows": [row(items=[1, "2x"])]}, 422, "items", [], id="a list of mixed types"),
        pytest.param({"rows": [row(at="yesterday")]}, 422, "at", [], id="no time"),
        pytest.param({"rows": [row(till=2**63)]}, 422, "till_id", [], id="a key beyond int64"),
        pytest.param({"rows": [1]}, 422, "rows", [], id="a row that is no object"),
        pytest.param({"df": {"till_id": [1], "at": []}}, 422, "df", [], id="columns of different lengths"),
        pytest.param({"df": [row()]}, 422, "df", [], id="rows called columns"),
        pytest.param({"row": [row()]}, 422, "row", ["rows"], id="an unknown field"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_nothing_is_written(
    till: httpx.Client, body: dict[str, object], status: int, name: str, nearest: list[str]
) -> None:
    before = read(till, 1, 2, 3)

    refused = push(till, body)

    assert refused.status_code == status, refused.text
    assert (refused.json()["name"], refused.json()["nearest"][:1]) == (name, nearest)
    assert read(till, 1, 2, 3) == before


def test_a_body_that_cannot_be_read_is_400_and_one_of_another_type_415(till: httpx.Client) -> None:
    whole = stream(table(1, 2))
    headers = {**BEARER, "content-type": ARROW}

    statuses = {
        end: till.post(f"/v1/push/{SOURCE}", content=whole[:end], headers=headers).status_code
        for end in (0, 5, 100, len(whole) // 2, len(whole) - 100)
    }
    no_json = till.post(f"/v1/push/{SOURCE}", content=b"{", headers=BEARER)
    text = till.post(f"/v1/push/{SOURCE}", content=b"a,b", headers={**BEARER, "content-type": "text/csv"})

    assert set(statuses.values()) == {400}, statuses
    assert no_json.status_code == 400
    assert (text.status_code, text.json()["name"]) == (415, "content-type")
    assert ARROW in text.json()["hint"]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("till_id", pa.array(["1"])),
        ("till_id", pa.array([1.5])),
        ("clerk", pa.array([1])),
        ("shop_rating", pa.array([True])),
        ("items", pa.array([["1"]])),
        ("at", pa.array([None], TIME)),
    ],
)
def test_an_arrow_column_of_another_type_is_refused_and_never_reinterpreted(
    till: httpx.Client, column: str, values: pa.Array
) -> None:
    wrong = table(1)
    wrong = wrong.set_column(wrong.schema.get_field_index(column), column, values)
    headers = {**BEARER, "content-type": ARROW}

    refused = till.post(f"/v1/push/{SOURCE}", content=stream(wrong), headers=headers)

    assert (refused.status_code, refused.json()["name"]) == (422, column), refused.text


def test_an_unknown_source_and_a_view_with_windows_are_refused_by_name(
    tmp_path: Path, till: httpx.Client
) -> None:
    unknown = push(till, {"rows": [row()]}, source="live_profile")
    root = pushed_project(tmp_path, "windowed_shop")
    windows_are_pushed_to(root, "windowed_shop")

    with running(application(Served(str(root), clock=NOW))) as url, httpx.Client(base_url=url) as client:
        refused = push(client, {"rows": [row()]})

    assert (unknown.status_code, unknown.json()["nearest"]) == (404, [SOURCE])
    assert (refused.status_code, refused.json()["name"]) == (422, "spending")
    assert "computed by materialisation" in refused.json()["error"]


def test_a_view_that_cannot_be_written_is_named_with_those_that_were_and_sending_again_completes_it(
    app: Application, till: httpx.Client
) -> None:
    table = OnlineTable("till_state", ("till_id",))
    store, (view, schema) = app._features.store, app._features.catalogue.view("till_state")
    store.declare(
        table, b"anothers"
    )  # as if another version had been applied that this server has not seen yet
    body = {"rows": [row(71)]}

    refused = push(till, body)
    store.declare(table, codec_of(view, schema).schema_hash)
    again = push(till, body)

    assert (refused.status_code, refused.json()["name"]) == (503, "till_state")
    assert refused.json()["degraded"] == "store"
    assert 'written before it: "till_clerk"' in refused.json()["error"]
    assert "Send it again" in refused.json()["hint"]
    assert again.json() == {"rows": 1, "written": 1, "views": {"till_clerk": 0, "till_state": 1}}


def test_a_push_that_cannot_see_who_was_erased_writes_nothing(
    app: Application, till: httpx.Client, pushed: Path
) -> None:
    database = pushed / ".mlcore" / "metadata.db"
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE mlcore_erasures RENAME TO hidden")
    connection.close()
    refused = push(till, {"rows": [row(72)]})
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE hidden RENAME TO mlcore_erasures")
    connection.close()

    assert (refused.status_code, refused.json()["degraded"]) == (503, "metadata")
    assert read(till, 72, service="clerks") == {"clerk": [None]}
    assert push(till, {"rows": [row(72)]}).json()["written"] == 2
