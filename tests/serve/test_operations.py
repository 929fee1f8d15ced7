"""How the server behaves while things change or break around it: registry, store, load, metrics."""

from __future__ import annotations

import logging
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from mlflow_core.online.backend import Ask, Found
from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.run import Served, application
from tests.serve.shop import DECLARATIONS, NOW, ROW, mlcore, names, prepared, running, until


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that tests of this module may change."""
    return prepared(tmp_path_factory.mktemp("changing"), "changing_shop")


@pytest.fixture
def quick(changing: Path) -> Iterator[str]:
    """A server that looks for changes all the time."""
    app = application(Served(str(changing), clock=NOW, limits=Limits(refresh_s=0.05)))
    with running(app) as address:
        yield address


def ask(url: str, service: str = "shop", row: dict[str, object] = ROW) -> httpx.Response:
    return httpx.post(f"{url}/v1/features", json={"service": service, "entities": [row]}, timeout=30.0)


def ready(url: str) -> dict[str, object]:
    answer: dict[str, object] = httpx.get(f"{url}/readyz", timeout=30.0).json()
    return answer


def test_it_lives_is_ready_and_lists_what_it_serves(http: httpx.Client) -> None:
    assert http.get("/livez").json() == {"status": "alive"}
    state = http.get("/readyz")
    assert (state.status_code, state.json()["status"]) == (200, "ready")
    assert state.json()["services"] == {"plain": None, "shop": None}
    services = http.get("/v1/services").json()["services"]
    assert names(services) == ["plain", "shop"]
    assert services[1]["entities"] == {"user_id": "int64"}
    assert services[1]["request"] == {"basket": "float64"}
    assert services[1]["features"][-1] == "relative"


def counted(page: str, name: str) -> float:
    """The value of a counter with its labels; 0 where it has not counted yet."""
    return next((float(line.split(" ")[-1]) for line in page.splitlines() if line.startswith(name)), 0.0)


def test_metrics_count_requests_by_route_and_values_by_status(http: httpx.Client) -> None:
    unknown = 'mlcore_feature_values_total{status="NOT_FOUND",view="spending"}'
    before = counted(http.get("/metrics").text, unknown)
    http.post("/v1/features", json={"service": "plain", "entities": [{"user_id": 1}, {"user_id": 99}]})
    http.get("/no/such/route")

    page = http.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain")
    lines = page.text.splitlines()
    assert any(line.startswith('mlcore_requests_total{route="/v1/features",status="200"}') for line in lines)
    assert counted(page.text, unknown) == before + 2
    assert not any("/no/such/route" in line for line in lines)


def test_a_new_registry_version_is_served_without_losing_a_request(changing: Path, quick: str) -> None:
    stop, statuses = threading.Event(), []

    def caller() -> None:
        with httpx.Client(base_url=quick, timeout=30.0) as client:
            while not stop.is_set():
                body = {"service": "shop", "entities": [ROW]}
                statuses.append(client.post("/v1/features", json=body).status_code)

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(caller)
        file = changing / "changing_shop" / "shop.py"
        file.write_text(DECLARATIONS + 'late = ml.FeatureService("late", [profile[["country"]]])\n')
        assert mlcore(changing, "apply") == 0
        until(lambda: ask(quick, "late", {"user_id": 1}).status_code == 200)
        stop.set()
        calling.result()

    assert ask(quick, "late", {"user_id": 1}).json()["features"] == {"country": ["CH"]}
    assert len(statuses) > 5
    assert set(statuses) == {200}


def test_a_broken_new_version_leaves_the_old_one_serving_and_shows(changing: Path, quick: str) -> None:
    registry = changing / "changing_shop" / "data" / "registry.db"
    before = registry.read_bytes()
    with sqlite3.connect(registry) as connection:
        connection.execute("DELETE FROM on_demand_feature_views")
    connection.close()
    until(lambda: ready(quick)["status"] == "degraded")

    state = ready(quick)
    answer = ask(quick)

    assert "against_usual" in str(state["services"]["shop"])  # type: ignore[index]
    assert answer.json()["features"]["relative"] == [2.0]
    assert ask(quick, "plain", {"user_id": 1}).status_code == 200
    registry.write_bytes(before)
    until(lambda: ready(quick)["status"] == "ready")


def test_a_registry_that_cannot_be_read_leaves_everything_serving_and_shows(
    changing: Path, quick: str
) -> None:
    registry = changing / "changing_shop" / "data" / "registry.db"
    before = registry.read_bytes()
    registry.write_bytes(b"this is no database at all, not even a little bit of one")
    until(lambda: ready(quick)["status"] == "degraded")

    state = ready(quick)
    answer = ask(quick)

    assert not state["registry"]["ok"]  # type: ignore[index]
    assert answer.status_code == 200
    registry.write_bytes(before)
    until(lambda: ready(quick)["status"] == "ready")


def test_changed_code_is_not_run_for_what_was_applied_with_other_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = prepared(tmp_path, "recoded_shop")
    file = root / "recoded_shop" / "shop.py"
    file.write_text(DECLARATIONS.replace('x["basket"] /', '2 * x["basket"] /'))
    assert mlcore(root, "plan") == 4  # imports the new code; the registry has the old one

    code = mlcore(root, "features", "get", "shop", "--at", NOW, "user_id=1", "basket=30")

    assert code == 1
    assert "is not the code that was applied" in capsys.readouterr().err
    assert mlcore(root, "features", "get", "plain", "--at", NOW, "user_id=1") == 0


def test_a_store_that_is_gone_bad_is_503_with_a_reason_in_readyz(tmp_path: Path, project: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(project, root)
    app = application(Served(str(root), clock=NOW))
    store = root / "served_shop" / "data" / "online.db"
    for file in store.parent.glob("online.db*"):
        file.unlink()
    store.write_bytes(b"this is no database at all, not even a little bit of one")

    with running(app) as url:
        answer, state = ask(url), httpx.get(f"{url}/readyz", timeout=30.0)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert state.status_code == 503
    assert "online.db" in state.json()["store"]["error"]


def test_too_much_at_once_is_refused_at_once_and_a_slow_answer_in_time(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(in_flight=2, threads=1, deadline_s=0.3)
    app: Application = application(Served(str(project), clock=NOW, limits=limits))
    store = app._features.store
    held, real = threading.Event(), store.read

    def slow(asks: Sequence[Ask]) -> list[Found]:
        held.wait(20)
        return real(asks)

    def taken() -> int:
        return app.metrics.in_flight + app._threads.left_behind

    monkeypatch.setattr(store, "read", slow)
    with running(app) as url, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, url) for _ in range(2)]
        until(lambda: taken() == 2)
        refused = ask(url)
        alive = httpx.get(f"{url}/livez", timeout=30.0)
        late = [one.result().status_code for one in waiting]
        held.set()
        until(lambda: taken() == 0)
        after = ask(url)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert alive.status_code == 200
    assert late == [504, 504]
    assert after.status_code == 200


def test_callers_that_send_slowly_keep_nobody_out_and_are_told_in_the_end(project: Path) -> None:
    limits = Limits(in_flight=2, deadline_s=5.0)
    app: Application = application(Served(str(project), clock=NOW, limits=limits))
    with running(app) as url, ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        slow = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(8)]
        for one in slow:
            one.sendall(b"POST /v1/features HTTP/1.1\r\nHost: shop\r\nContent-Length: 99\r\n\r\n{")
            one.settimeout(30)
        assert ask(url).status_code == 200
        told = [one.recv(4096) for one in slow]
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in told)
    assert b"the body did not arrive within 5 s" in told[0]


def test_code_that_is_kept_in_the_registry_is_refused_unless_allowed(tmp_path: Path) -> None:
    from feast import FeatureService as FeastService
    from feast import Field, RequestSource
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64

    from mlflow_core.feast.registry import open_store

    root = prepared(tmp_path, "native_shop")
    store = open_store(root / "native_shop")
    basket = RequestSource(name="basket_request", schema=[Field(name="basket", dtype=Float64)])

    @on_demand_feature_view(sources=[basket], schema=[Field(name="doubled", dtype=Float64)], mode="pandas")
    def doubled(inputs):  # type: ignore[no-untyped-def]
        import pandas as pd

        return pd.DataFrame({"doubled": inputs["basket"] * 2})

    store.apply([basket, doubled, FeastService(name="native", features=[doubled])])

    with running(application(Served(str(root), clock=NOW))) as url:
        refused, others = ask(url, "native", {"basket": 2.0}), ask(url)
    with running(application(Served(str(root), clock=NOW, allow_registry_code=True))) as url:
        allowed = ask(url, "native", {"basket": 2.0})

    assert refused.status_code == 503
    assert "--allow-registry-code" in refused.text
    assert others.status_code == 200
    assert allowed.json()["features"] == {"doubled": [4.0]}


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    logger = logging.getLogger("mlflow_core")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])
