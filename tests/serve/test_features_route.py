"""``/v1/features`` over real HTTP: what is answered, and what is refused how."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from tests.serve.shop import ROW

KEYS = {"error", "name", "nearest", "hint"}


def ask(http: httpx.Client, **body: object) -> httpx.Response:
    return http.post("/v1/features", json={"service": "shop", "entities": [ROW], **body})


def test_an_entity_gets_its_features_with_statuses_in_the_services_order(http: httpx.Client) -> None:
    answer = ask(http)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    features = answer.json()["features"]
    assert list(features) == [
        "amount_sum_24h", "amount_mean_24h", "orders_24h", "last_items",
        "country", "score", "big", "joined", "token", "relative",
    ]  # fmt: skip
    assert features["amount_sum_24h"] == [30.0]
    assert features["amount_mean_24h"] == [15.0]
    assert features["last_items"] == [["pen", "ink"]]
    assert features["relative"] == [2.0]
    assert set(answer.json()) == {"features", "statuses"}
    assert set(answer.json()["statuses"].values()) == {"PRESENT"}  # told once where all rows have it


def test_every_type_of_value_has_its_form_in_json(http: httpx.Client) -> None:
    answer = ask(http, event_timestamps=True, types=True).json()

    features = answer["features"]
    assert features["big"] == [str(2**60)]
    assert features["joined"] == ["2024-01-01T00:00:00Z"]
    assert features["token"] == ["AP8="]
    assert answer["types"]["big"] == "int64"
    assert answer["types"]["last_items"] == "list<string>"
    assert answer["event_timestamps"]["country"] == ["2024-01-10T01:00:00Z"]
    assert answer["event_timestamps"]["orders_24h"] == ["2024-01-10T10:00:00Z"]
    assert answer["event_timestamps"]["relative"] == [None]


def test_infinity_is_text_and_a_stale_value_is_null_and_says_so(http: httpx.Client) -> None:
    rows = [
        {"user_id": user, "basket": basket} for user, basket in ((2, "Infinity"), (3, 1), (99, 1), (None, 1))
    ]

    answer = ask(http, entities=rows).json()

    assert answer["statuses"]["country"] == ["OUTSIDE_MAX_AGE", "NULL_VALUE", "NOT_FOUND", "NOT_FOUND"]
    assert answer["features"]["country"] == [None] * 4
    assert (answer["features"]["score"][1], answer["statuses"]["score"][1]) == (
        None,
        "NULL_VALUE",
    )  # NaN is a null
    assert answer["features"]["orders_24h"] == [1, 1, 0, 0]
    assert answer["statuses"]["orders_24h"] == ["PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND"]
    assert answer["features"]["relative"][0] == "Infinity"


def test_duplicates_and_any_order_are_answered_row_by_row(http: httpx.Client) -> None:
    rows = [{"user_id": user, "basket": 1.0} for user in (2, 1, 2, 99, 1)]

    answer = ask(http, entities=rows).json()

    assert answer["features"]["amount_sum_24h"] == [5.0, 30.0, 5.0, None, 30.0]


def test_request_fields_may_stand_apart_from_the_keys(http: httpx.Client) -> None:
    apart = ask(http, entities=[{"user_id": 1}], request=[{"basket": 30}])

    assert apart.json() == ask(http).json()


def test_full_feature_names_name_the_view(http: httpx.Client) -> None:
    features = ask(http, full_feature_names=True).json()["features"]

    assert features["spending__amount_mean_24h"] == [15.0]
    assert features["against_usual__relative"] == [2.0]


def test_no_entities_get_no_values(http: httpx.Client) -> None:
    answer = ask(http, entities=[])

    assert answer.status_code == 200
    assert set(map(tuple, answer.json()["features"].values())) == {()}


def test_ten_thousand_entities_are_answered_and_one_more_is_refused(http: httpx.Client) -> None:
    many = [{"user_id": 1, "basket": 1.0}] * 10_000

    assert len(ask(http, entities=many).json()["features"]["big"]) == 10_000
    refused = ask(http, entities=[*many, many[0]])

    assert refused.status_code == 422
    assert "at most 10000" in refused.json()["hint"]


@pytest.mark.parametrize(
    ("body", "status", "name", "nearest"),
    [
        pytest.param({"service": "shpo"}, 404, "shpo", ["shop"], id="a service that does not exist"),
        pytest.param(
            {"entities": [{"usr_id": 1, "basket": 1}]}, 422, "usr_id", ["user_id"], id="an unknown column"
        ),
        pytest.param({"entities": [{"basket": 1}]}, 422, "user_id", [], id="a key that is missing"),
        pytest.param({"entities": [{"user_id": 1}]}, 422, "basket", [], id="a request field that is missing"),
        pytest.param(
            {"entities": [{"user_id": "1x", "basket": 1}]}, 422, "user_id", [], id="a key of a wrong type"
        ),
        pytest.param(
            {"entities": [{"user_id": True, "basket": 1}]}, 422, "user_id", [], id="a boolean as a key"
        ),
        pytest.param(
            {"entities": [{"user_id": 1.5, "basket": 1}]}, 422, "user_id", [], id="a fraction as a key"
        ),
        pytest.param(
            {"entities": [{"user_id": 2**63, "basket": 1}]}, 422, "user_id", [], id="a key beyond int64"
        ),
        pytest.param(
            {"entities": [ROW, {"user_id": "a", "basket": 1}]}, 422, "user_id", [], id="keys of mixed types"
        ),
        pytest.param({"entities": [{"user_id": 1, "basket": "a"}]}, 422, "basket", [], id="text as a number"),
        pytest.param({"entities": {"user_id": [1]}}, 422, "entities", [], id="columns instead of rows"),
        pytest.param({"entities": [1]}, 422, "entities", [], id="a row that is no object"),
        pytest.param({"request": [{}, {}]}, 422, "request", [], id="more request rows than entities"),
        pytest.param({"request": [{"basket": 31}]}, 422, "basket", [], id="two values for one field"),
        pytest.param(
            {"entites": []}, 422, "entites", ["entities"], id="a field of the body that does not exist"
        ),
        pytest.param({"types": "yes"}, 422, "types", [], id="a flag that is no boolean"),
        pytest.param({"service": None}, 422, "service", [], id="no service"),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    http: httpx.Client, body: dict[str, object], status: int, name: str, nearest: list[str]
) -> None:
    refused = ask(http, **body)

    assert refused.status_code == status, refused.text
    said = refused.json()
    assert set(said) == KEYS
    assert said["name"] == name
    assert said["nearest"][:1] == nearest
    assert "Traceback" not in refused.text


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"", 400), (b"\xff\xfe", 400), (b"[]", 422), (b"null", 422), (b'{"service": NaN}', 400)],
)
def test_a_body_that_is_no_json_object_is_refused(http: httpx.Client, body: bytes, status: int) -> None:
    refused = http.post("/v1/features", content=body)

    assert refused.status_code == status
    assert set(refused.json()) == KEYS


def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_its_length(http: httpx.Client) -> None:
    body = json.dumps({"service": "shop", "entities": [ROW], "note": "x" * 2_000_000}).encode()

    told = http.post("/v1/features", content=body)
    untold = http.post("/v1/features", content=iter([body[:1_500_000], body[1_500_000:]]))

    assert (told.status_code, untold.status_code) == (413, 413)
    assert "at most 2000000" in told.json()["hint"]
    assert ask(http).status_code == 200


def test_the_wrong_method_and_the_wrong_route_are_told_the_right_ones(http: httpx.Client) -> None:
    method, route = http.get("/v1/features"), http.post("/v1/feature", json={})

    assert (method.status_code, method.headers["allow"]) == (405, "POST")
    assert route.status_code == 404
    assert "/v1/features" in route.json()["hint"]


def test_a_fault_of_ours_is_logged_with_its_cause_and_not_sent(
    http: httpx.Client, app: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(body: bytes, accept: bytes) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(app._routes, "features", broken)  # type: ignore[attr-defined]
    monkeypatch.setattr(logging.getLogger("mlflow_core"), "propagate", True)

    answer = ask(http)

    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text
