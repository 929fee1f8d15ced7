"""What is wrong with a request to Feast's route, and what looks odd and is not: each has one answer, for every row."""

from __future__ import annotations

import httpx
import pyarrow as pa
import pytest

KEYS = {"error", "name", "nearest", "hint"}


def ask(http: httpx.Client, entities: object, **body: object) -> httpx.Response:
    whole = {"feature_service": "plain", "entities": entities, **body}
    return http.post(
        "/get-online-features", json={name: one for name, one in whole.items() if one is not None}
    )


def columns(answer: httpx.Response) -> dict[str, tuple[list[object], list[str]]]:
    assert answer.status_code == 200, answer.text
    data = answer.json()
    names = data["metadata"]["feature_names"]
    return {name: (one["values"], one["statuses"]) for name, one in zip(names, data["results"], strict=True)}


def test_duplicates_and_unsorted_keys_are_answered_in_the_requests_order(http: httpx.Client) -> None:
    answer = columns(ask(http, {"user_id": [2, 1, 2, 99, 1]}))

    assert answer["user_id"][0] == [2, 1, 2, 99, 1]
    assert answer["amount_mean_24h"] == (
        [5.0, 15.0, 5.0, None, 15.0],
        ["PRESENT", "PRESENT", "PRESENT", "NOT_FOUND", "PRESENT"],
    )


def test_a_null_key_matches_nothing_and_its_neighbours_keep_their_places(http: httpx.Client) -> None:
    answer = columns(ask(http, {"user_id": [None, 1, None]}))

    assert answer["orders_24h"] == ([0, 2, 0], ["NOT_FOUND", "PRESENT", "NOT_FOUND"])


def test_no_entities_are_answered_with_no_values(http: httpx.Client) -> None:
    assert columns(ask(http, {"user_id": []}))["orders_24h"] == ([], [])


def test_ten_thousand_entities_are_answered_and_one_more_is_refused(http: httpx.Client) -> None:
    assert len(columns(ask(http, {"user_id": [1] * 10_000}))["orders_24h"][0]) == 10_000

    refused = ask(http, {"user_id": [1] * 10_001})

    assert (refused.status_code, refused.json()["name"]) == (422, "entities")
    assert "10001" in refused.json()["error"]


@pytest.mark.parametrize(
    ("entities", "body", "status", "name", "nearest"),
    [
        pytest.param({"user_id": [1]}, {"feature_service": "plian"}, 404, "plian", "plain", id="service"),
        pytest.param(
            {"user_id": [1]},
            {"feature_service": None, "features": ["spendin:orders_24h"]},
            404,
            "spendin",
            "spending",
            id="view",
        ),
        pytest.param(
            {"user_id": [1]},
            {"feature_service": None, "features": ["spending:order_24h"]},
            404,
            "order_24h",
            "orders_24h",
            id="feature",
        ),
        pytest.param({"usr_id": [1]}, {}, 422, "usr_id", "user_id", id="entity column"),
        pytest.param({"user_id": [1], "usr_id": [1]}, {}, 422, "usr_id", "user_id", id="one column more"),
        pytest.param({"user_id": [1, "x"]}, {}, 422, "user_id", None, id="keys of mixed types"),
        pytest.param({"user_id": [True]}, {}, 422, "user_id", None, id="a boolean as a key"),
        pytest.param({"user_id": [[1]]}, {}, 422, "user_id", None, id="a list as a key"),
        pytest.param({"user_id": 1}, {}, 422, "entities", None, id="a value instead of a list"),
        pytest.param([{"user_id": 1}], {}, 422, "entities", None, id="rows instead of columns"),
        pytest.param(
            {"user_id": [1]}, {"full_feature_names": "yes"}, 422, "full_feature_names", None, id="a flag"
        ),
        pytest.param(
            {"user_id": [1]}, {"feature_service": None, "features": ["orders_24h"]}, 422, "orders_24h", None,
            id="no reference",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name_and_the_nearest_that_exists(
    http: httpx.Client, entities: object, body: dict[str, object], status: int, name: str, nearest: str | None
) -> None:
    refused = ask(http, entities, **body)

    assert refused.status_code == status, refused.text
    said = refused.json()
    assert set(said) == KEYS
    assert said["name"] == name
    assert (said["nearest"] or [None])[0] == nearest


@pytest.mark.parametrize("value", [pytest.param("deep", id="deep"), pytest.param("long", id="long")])
def test_a_key_that_is_deep_or_long_is_refused_in_a_few_words(http: httpx.Client, value: str) -> None:
    given = b"[" * 1000 + b"]" * 1000 if value == "deep" else b'"%b"' % (b"x" * 1_000_000)
    body = b'{"feature_service":"plain","entities":{"user_id":[%b]}}' % given

    refused = http.post("/get-online-features", content=body)

    assert (refused.status_code, refused.json()["name"]) == (422, "user_id")
    assert len(refused.content) < 400


@pytest.mark.parametrize("route", ["/v1/features", "/get-online-features", "/v1/predict/returns"])
def test_a_body_that_is_no_json_is_400_whatever_it_says_it_is(http: httpx.Client, route: str) -> None:
    table = pa.table({"user_id": [1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    arrow = bytes(sink.getvalue())

    for content, kind in (
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"user_id=1", "application/x-www-form-urlencoded"),
        (arrow, "application/vnd.apache.arrow.stream"),
        (arrow[:-20], "application/vnd.apache.arrow.stream"),
        (b'\xef\xbb\xbf{"a": 1}', "application/json"),
    ):
        refused = http.post(route, content=content, headers={"content-type": kind})
        assert refused.status_code == 400, (content, refused.text)
        assert set(refused.json()) == KEYS


def test_json_is_read_whatever_the_content_type_says(http: httpx.Client) -> None:
    body = b'{"service": "plain", "entities": [{"user_id": 1}]}'

    answer = http.post("/v1/features", content=body, headers={"content-type": "text/plain"})

    assert answer.json()["features"]["orders_24h"] == [2]


def test_many_rows_come_as_arrow_and_no_rows_too(http: httpx.Client) -> None:
    headers = {"accept": "application/vnd.apache.arrow.stream, application/json;q=0.5"}
    for users in ([1, 99, 2], []):
        body = {"service": "plain", "entities": [{"user_id": user} for user in users]}
        answer = http.post("/v1/features", json=body, headers=headers)

        assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table["orders_24h"].type == pa.int64()
        assert table["orders_24h"].to_pylist() == [{1: 2, 99: 0, 2: 1}[user] for user in users]
    refused = http.post("/v1/features", json={"service": "plian", "entities": []}, headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (404, "application/json")
