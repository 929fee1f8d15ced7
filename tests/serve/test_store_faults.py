"""A store that is down, slow, restarted, or holds what this server cannot read: an explicit status, never a silent null."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.head import LAYOUT_AT, VERSION_BYTES, version_bytes
from mlflow_core.online.keys import encode_key
from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.run import Served, application
from tests.serve.pushed_shop import BEARER, SOURCE, pushed_project, row
from tests.serve.shop import NOW, running, until
from tests.servers.redis import Server

TIMEOUT_S = 0.4


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, redis: Server) -> Path:
    root = tmp_path_factory.mktemp("on_redis")
    lines = f"  backend: redis\n  connection: {redis.url}\n  timeout_s: {TIMEOUT_S}\n"
    return pushed_project(root, "redis_shop", store=lines)


@pytest.fixture(scope="module")
def app(project: Path) -> Application:
    return application(Served(str(project), clock=NOW, limits=Limits(refresh_s=60.0, deadline_s=5.0)))


@pytest.fixture(scope="module")
def url(app: Application) -> Iterator[str]:
    with running(app) as address:
        yield address


@pytest.fixture
def till(url: str, redis: Server) -> Iterator[httpx.Client]:
    """A client, with one till stored, of a server whose store works before and after."""
    with httpx.Client(base_url=url, timeout=30.0) as client:
        until(lambda: push(client).status_code == 200)
        yield client
        redis.resume()


def push(till: httpx.Client, *tills: int) -> httpx.Response:
    rows = [row(one) for one in tills or (1,)]
    return till.post(f"/v1/push/{SOURCE}", json={"rows": rows}, headers=BEARER)


def ours(till: httpx.Client) -> httpx.Response:
    return till.post("/v1/features", json={"service": "clerks", "entities": [{"till_id": 1}]})


def feasts(till: httpx.Client) -> httpx.Response:
    return till.post("/get-online-features", json={"feature_service": "clerks", "entities": {"till_id": [1]}})


def all_three(till: httpx.Client) -> list[httpx.Response]:
    return [ours(till), feasts(till), push(till)]


def test_a_store_that_is_down_is_503_and_served_again_when_it_is_back(
    till: httpx.Client, redis: Server
) -> None:
    redis.kill()
    down, ready = all_three(till), till.get("/readyz")
    alive = till.get("/livez")
    redis.start()

    assert [one.status_code for one in down] == [503] * 3
    assert {one.json()["degraded"] for one in down} == {"store"}
    assert all("retry-after" in one.headers for one in down)
    assert all("127.0.0.1" not in one.text for one in down)
    assert (ready.status_code, alive.status_code) == (503, 200)
    until(lambda: push(till).status_code == 200)
    until(lambda: ours(till).status_code == 200)  # the event loop's connections try again after a moment
    assert ours(till).json()["features"] == {"clerk": ["bob"]}


def test_a_store_that_hangs_is_504_in_time_and_served_again_when_it_goes_on(
    till: httpx.Client, redis: Server
) -> None:
    redis.pause()
    started = time.monotonic()
    slow = all_three(till)
    took = time.monotonic() - started
    redis.resume()

    assert [one.status_code for one in slow] == [504] * 3, [one.text for one in slow]
    assert {one.json()["degraded"] for one in slow} == {"store"}
    assert "Send it again" in slow[2].json()["hint"]
    assert took < 3 * 5.0
    until(lambda: ours(till).status_code == 200)
    assert ours(till).json()["features"] == {"clerk": ["bob"]}
    assert push(till).json()["written"] in (0, 2)  # what was in flight may have arrived


def test_a_store_that_is_restarted_meanwhile_gives_values_or_an_explicit_status(
    till: httpx.Client, redis: Server
) -> None:
    stop, answers = threading.Event(), []

    def caller() -> None:
        with httpx.Client(base_url=str(till.base_url), timeout=30.0) as client:
            while not stop.is_set():
                answers.append(feasts(client))

    with ThreadPoolExecutor(2) as pool:
        calling = [pool.submit(caller) for _ in range(2)]
        until(lambda: len(answers) > 20)
        redis.pause()
        time.sleep(0.1)
        redis.kill()  # with requests on their way
        redis.start()
        until(lambda: push(till).status_code == 200)
        seen = len(answers)
        # Reads have connections of their own, which try again after a moment.
        until(lambda: any(one.status_code == 200 for one in answers[seen:]))
        back = len(answers)
        until(lambda: len(answers) > back + 20)
        stop.set()
        for one in calling:
            one.result()

    good = [one.json() for one in answers if one.status_code == 200]
    bad = [one for one in answers if one.status_code != 200]
    # The store keeps nothing over a restart: between it and the next push the till is unknown, and so it is said.
    told = {(*one["results"][1]["values"], *one["results"][1]["statuses"]) for one in good}
    assert told <= {("bob", "PRESENT"), (None, "NOT_FOUND")}
    assert ("bob", "PRESENT") in told
    assert bad, "nothing was on its way"
    assert {one.status_code for one in bad} <= {503, 504}
    assert {one.json()["degraded"] for one in bad} == {"store"}
    late = [one for one in answers[back:] if one.status_code != 200]
    assert len(late) <= 1  # one may be the other caller's, which asked before


def test_an_erasure_that_the_store_did_not_take_is_said_and_done_by_asking_again(
    till: httpx.Client, redis: Server
) -> None:
    def erase() -> httpx.Response:
        return till.request("DELETE", "/v1/entities/till", json={"till_id": 5}, headers=BEARER)

    push(till, 5)
    redis.pause()
    refused = erase()
    redis.resume()
    until(lambda: ours(till).status_code == 200)
    again = erase()

    assert (refused.status_code, refused.json()["degraded"]) == (504, "store")
    assert "Send it again" in refused.json()["hint"]
    assert again.status_code == 200
    body = {"service": "clerks", "entities": [{"till_id": 5}]}
    assert till.post("/v1/features", json=body).json()["statuses"] == {"clerk": "NOT_FOUND"}


def test_metrics_count_what_the_store_did_not_answer(till: httpx.Client, redis: Server) -> None:
    def failures() -> float:
        lines = till.get("/metrics").text.splitlines()
        return float(
            next(line for line in lines if line.startswith("mlcore_store_failures_total")).split()[-1]
        )

    before = failures()
    redis.pause()
    all_three(till)
    redis.resume()

    assert failures() == before + 2  # reads; what was not written shows in the requests by status


@pytest.mark.parametrize("among", [1, 3, 200])
@pytest.mark.parametrize("layout", [9, 1])
def test_a_row_that_another_version_wrote_is_503_and_names_the_view_and_never_null(
    app: Application, till: httpx.Client, among: int, layout: int
) -> None:
    tills = [1000 * layout + among * 10 + i for i in range(among)]
    push(till, *tills)
    store, table = app._features.store, OnlineTable("till_clerk", ("till_id",))
    key = encode_key((tills[-1],))
    [[[value]]] = store.read([Ask(table.keys, (table.view,), [key])])
    assert value is not None
    changed = version_bytes(2**60, 0) + bytes([layout]) + value[LAYOUT_AT + 1 :]
    assert len(changed) == len(value)
    assert changed[:VERSION_BYTES] > value[:VERSION_BYTES]
    assert store.write(table, [(key, changed)]) == 1

    compact = till.post(
        "/v1/features", json={"service": "clerks", "entities": [{"till_id": one} for one in tills]}
    )
    feast = till.post(
        "/get-online-features", json={"feature_service": "clerks", "entities": {"till_id": tills}}
    )
    others = till.post("/v1/features", json={"service": "tills", "entities": [{"till_id": tills[-1]}]})

    for refused in (compact, feast):
        assert (refused.status_code, refused.json()["degraded"]) == (503, "store")
        assert f'FeatureView "till_clerk": a stored row has layout {layout}' in refused.json()["error"]
        assert "null" not in refused.text.replace('"name":null', "")
    assert others.status_code == 200
