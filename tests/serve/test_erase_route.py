"""Erasing over real HTTP: every view of the entity, for good, recorded with the caller and without the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlflow_core.config import FixedClock, Principal, load_settings, parse_time
from mlflow_core.metadata import MetadataStore
from mlflow_core.online.keys import decode_key
from mlflow_core.serve.app import Limits
from mlflow_core.serve.run import Served, application
from tests.serve.pushed_shop import BEARER, SOURCE, pushed_project, row
from tests.serve.shop import NOW, mlcore, running


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = pushed_project(tmp_path_factory.mktemp("kept"), "kept_shop")
    words = ("--to", "2024-01-10T10:00Z", "--clock", "2024-01-10T10:10Z")
    assert mlcore(root, "materialize", "spending", "profile", *words) == 0
    return root


@pytest.fixture(scope="module")
def shop(kept: Path) -> Iterator[httpx.Client]:
    served = Served(str(kept), clock=NOW, limits=Limits(refresh_s=60.0))
    with running(application(served)) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        yield client


def erase(shop: httpx.Client, entity: str, body: object) -> httpx.Response:
    return shop.request("DELETE", f"/v1/entities/{entity}", json=body, headers=BEARER)


def read(shop: httpx.Client, service: str, *rows: dict[str, object]) -> dict[str, object]:
    answer = shop.post("/v1/features", json={"service": service, "entities": list(rows)})
    assert answer.status_code == 200, answer.text
    data: dict[str, object] = answer.json()
    return data


def test_an_erased_entity_is_unknown_in_every_view_and_others_are_not(shop: httpx.Client, kept: Path) -> None:
    rows = [{"user_id": user, "basket": 1.0} for user in (1, 2)]
    before = read(shop, "shop", *rows)["features"]

    answer = erase(shop, "user", {"user_id": 1})

    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert done["columns"] == ["user_id"]
    assert done["erased_until"] == NOW
    assert {view: done["online"][view] for view in ("spending", "profile")} == {"spending": 1, "profile": 1}
    after = read(shop, "shop", *rows)
    assert after["statuses"]["amount_sum_24h"] == ["NOT_FOUND", "PRESENT"]  # type: ignore[index]
    assert after["statuses"]["country"][0] == "NOT_FOUND"  # type: ignore[index]
    assert [one[1] for one in after["features"].values()] == [one[1] for one in before.values()]  # type: ignore[attr-defined]
    assert "user_id" not in answer.text.replace('"columns":["user_id"]', "")
    settings = load_settings(kept, environ={})
    with MetadataStore(
        settings.metadata_url(), FixedClock(parse_time(NOW)), Principal("test"), project="shop"
    ) as metadata:
        [record] = [one for one in metadata.list_erasures() if one.columns == ("user_id",)]
        assert (record.principal, record.established) == ("ops", "token")
        assert decode_key(record.key) == (1,)


def test_erasing_again_and_by_key_column_is_harmless(shop: httpx.Client) -> None:
    first, again = erase(shop, "user_id", {"user_id": 3}), erase(shop, "user_id", {"user_id": "3"})

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["erasure"] == again.json()["erasure"]
    assert set(again.json()["online"].values()) == {0}
    assert erase(shop, "user", {"user_id": 4711}).status_code == 200  # nobody has to know it


def test_what_was_erased_does_not_come_back_by_a_push_of_older_rows(shop: httpx.Client) -> None:
    url = f"/v1/push/{SOURCE}"
    shop.post(url, json={"rows": [row(1), row(2)]}, headers=BEARER)
    assert erase(shop, "till", {"till_id": 1}).json()["online"] == {"till_clerk": 1, "till_state": 1}

    late = shop.post(url, json={"rows": [row(1), row(2, at="2024-01-10T09:31Z")]}, headers=BEARER)
    after = read(shop, "clerks", {"till_id": 1}, {"till_id": 2})
    newer = shop.post(url, json={"rows": [row(1, at="2024-01-10T10:31Z")]}, headers=BEARER)

    assert late.json() == {"rows": 2, "written": 2, "views": {"till_clerk": 1, "till_state": 1}}
    assert after["statuses"] == {"clerk": ["NOT_FOUND", "PRESENT"]}
    assert newer.json()["written"] == 2
    assert read(shop, "clerks", {"till_id": 1})["features"] == {"clerk": ["bob"]}


@pytest.mark.parametrize(
    ("entity", "body", "status", "name", "nearest"),
    [
        ("usr", {"user_id": 1}, 404, "usr", ["user"]),
        ("till_id,usr_id", {"user_id": 1}, 404, "usr_id", ["user_id"]),
        ("user", {"usr_id": 1}, 422, "usr_id", ["user_id"]),
        ("user", {}, 422, "user_id", []),
        ("user", {"user_id": None}, 422, "user_id", []),
        ("user", {"user_id": "one"}, 422, "user_id", []),
        ("user", {"user_id": 1, "till_id": 1}, 422, "till_id", []),
        ("user", [1], 422, None, []),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_nothing_is_erased(
    shop: httpx.Client, entity: str, body: object, status: int, name: str | None, nearest: list[str]
) -> None:
    refused = erase(shop, entity, body)

    assert refused.status_code == status, refused.text
    assert (refused.json()["name"], refused.json()["nearest"][:1]) == (name, nearest)


def test_no_json_and_another_method_are_told_so(shop: httpx.Client) -> None:
    assert shop.request("DELETE", "/v1/entities/user", content=b"{", headers=BEARER).status_code == 400
    wrong = shop.post("/v1/entities/user", json={"user_id": 2}, headers=BEARER)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE")
