"""Features asked for by reference: names that meet are refused, and what is kept does not grow with what is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pandas as pd
import pytest

from mlflow_core.serve.app import Application
from mlflow_core.serve.run import Served, application
from mlflow_core.serve.served import ServedService
from tests.serve.shop import NOW, prepared, running, until


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Application:
    from feast import FeatureService, FeatureView, Field, FileSource, RequestSource
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64

    from mlflow_core.feast.registry import open_store

    root: Path = prepared(tmp_path_factory.mktemp("references"), "met_shop")
    basket = RequestSource(name="basket_request", schema=[Field(name="basket", dtype=Float64)])

    @on_demand_feature_view(sources=[basket], schema=[Field(name="score", dtype=Float64)], mode="pandas")
    def other(inputs):  # type: ignore[no-untyped-def]
        return pd.DataFrame({"score": inputs["basket"] * 2})

    store = open_store(root / "met_shop")
    rates = pd.DataFrame({"rate": [0.95], "at": [pd.Timestamp("2024-01-10T09:00Z")]})
    rates.to_parquet(root / "met_shop" / "data" / "rates.parquet")
    of_rates = FileSource(name="rates", path="data/rates.parquet", timestamp_field="at")
    market = FeatureView(
        name="market", entities=[], schema=[Field(name="rate", dtype=Float64)], source=of_rates, online=True
    )
    store.apply([basket, other, of_rates, market, FeatureService(name="world", features=[market])])
    store.write_to_online_store("market", rates)
    return application(Served(str(root), clock=NOW, allow_registry_code=True))


@pytest.fixture(scope="module")
def http(app: Application) -> Iterator[httpx.Client]:
    with running(app) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        yield client


def ask(http: httpx.Client, *references: str, full: bool = False) -> httpx.Response:
    entities = {"user_id": [1]} | ({"basket": [4.0]} if any("other:" in one for one in references) else {})
    body = {"features": list(references), "entities": entities, "full_feature_names": full}
    return http.post("/get-online-features", json=body)


def test_a_computed_and_a_stored_feature_of_one_name_need_full_names(http: httpx.Client) -> None:
    """Else one of them would come as the other."""
    refused = ask(http, "profile:score", "other:score")
    answered = ask(http, "profile:score", "other:score", full=True).json()
    assert refused.status_code == 422
    assert "full_feature_names" in refused.json()["hint"]
    assert answered["metadata"]["feature_names"] == ["user_id", "profile__score", "other__score"]
    assert [one["values"] for one in answered["results"]] == [[1], [1.5], [8.0]]


def test_a_reference_sent_many_times_is_answered_and_kept_once(http: httpx.Client, app: Application) -> None:
    """What stays compiled would else grow with every length of list that a caller sends."""
    once = ask(http, "profile:score", "profile:big")
    kept = len(app._features.catalogue.compiled)
    for n in range(2, 6):
        assert ask(http, *["profile:score", "profile:big"] * n).json() == once.json()
    assert len(app._features.catalogue.compiled) == kept


def test_references_that_are_compiled_keep_nobody_else_waiting_and_are_compiled_once(
    http: httpx.Client, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, threads, held = app._features.catalogue.compiler, [], threading.Event()
    assert compiler is not None
    real = compiler.references

    def slow(references: tuple[str, ...]) -> ServedService:
        threads.append(threading.current_thread().name)
        assert held.wait(20)
        return real(references)

    monkeypatch.setattr(compiler, "references", slow)
    with ThreadPoolExecutor(1) as pool:
        unseen = pool.submit(ask, http, "profile:country", "profile:score")
        until(lambda: bool(threads))
        meanwhile = http.post("/v1/features", json={"service": "world", "entities": [{}]})
        alive = http.get("/livez")
        held.set()
        first = unseen.result()
    again = ask(http, "profile:country", "profile:score")

    assert (meanwhile.status_code, alive.status_code, first.status_code) == (200, 200, 200)
    assert again.json() == first.json()
    assert len(threads) == 1
    assert threads[0].startswith("serve_")


def test_a_name_of_megabytes_is_refused_at_once_and_not_sent_back(http: httpx.Client) -> None:
    """Looking for names near it would keep everybody else waiting."""
    long = "spending" * 1_000_000
    started = time.monotonic()
    answers = [
        http.post("/get-online-features", json={"feature_service": long, "entities": {}}),
        http.post("/v1/features", json={"service": "plain", "entities": [{long: 1}]}),
    ]
    assert [(one.status_code, one.json()["nearest"]) for one in answers] == [(404, []), (422, [])]
    assert all(len(one.content) < 2_000 for one in answers)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_service_without_entities_answers_a_value_a_row(http: httpx.Client, n: int) -> None:
    answer = http.post("/v1/features", json={"service": "world", "entities": [{}] * n}).json()
    assert answer["features"] == {"rate": [0.95] * n}
