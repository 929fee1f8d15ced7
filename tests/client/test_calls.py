"""The clients against a real server, and against servers that are slow, busy, gone or something else."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from mlflow_core.client import (
    AsyncFeatureClient,
    ClientError,
    FeatureClient,
    ModelVersion,
    RequestRefused,
    Retry,
    ServerFailed,
    ServerUnavailable,
    UnexpectedAnswer,
)
from tests.serve.shop import ROW, running

SOON = Retry(attempts=3, first_wait_s=0.001, longest_wait_s=0.01, random=random.Random(5))
FEATURES = {
    "amount_sum_24h": 30.0,
    "amount_mean_24h": 15.0,
    "orders_24h": 2,
    "last_items": ["pen", "ink"],
    "country": "CH",
    "score": 1.5,
    "big": 2**60,
    "joined": datetime(2024, 1, 1, tzinfo=UTC),
    "token": b"\x00\xff",
    "relative": 2.0,
}


@pytest.fixture
def client(url: str) -> Iterator[FeatureClient]:
    with FeatureClient(url, timeout_s=30.0) as one:
        yield one


def test_values_come_back_as_pythons_own(client: FeatureClient) -> None:
    answer = client.get("shop", [{"user_id": 1}], request=[{"basket": 30.0}])

    assert answer.to_dicts() == [FEATURES]
    assert answer.statuses["big"] == ["PRESENT"]
    assert answer.types["joined"] == "timestamp"
    assert len(answer) == 1


def test_the_async_client_says_the_same(url: str) -> None:
    async def both() -> tuple[Any, Any, Any]:
        async with AsyncFeatureClient(url, timeout_s=30.0) as one:
            return await asyncio.gather(
                one.get("shop", [ROW]), one.predict("returns", [ROW], features=True), one.services()
            )

    features, prediction, services = asyncio.run(both())

    assert features.to_dicts() == [FEATURES]
    assert prediction.features == features
    assert [one["name"] for one in services] == ["plain", "shop"]


def test_a_prediction_names_its_model(client: FeatureClient) -> None:
    prediction = client.predict("returns", [ROW, ROW])

    assert prediction.model == ModelVersion("returns", 1, "candidate")
    assert len(prediction.predictions) == 2
    assert 0.0 < prediction.predictions[0] < 1.0
    assert prediction.features is None


def test_the_catalogue_and_full_names_can_be_had(client: FeatureClient) -> None:
    assert [one["name"] for one in client.services()] == ["plain", "shop"]
    assert "profile__country" in client.get("shop", [ROW], full_feature_names=True).columns


def test_a_wrong_request_is_refused_with_the_nearest_name_and_not_tried_again(client: FeatureClient) -> None:
    with pytest.raises(RequestRefused, match='"shpo"') as refused:
        client.get("shpo", [ROW])

    assert (refused.value.status, refused.value.name, refused.value.nearest) == (404, "shpo", ("shop",))
    assert refused.value.attempts == 1


def answering(*replies: tuple[int, Any, dict[str, str]]) -> tuple[Callable[..., Any], list[str]]:
    """A server that gives these replies in turn, the last one for ever; and what it was asked."""
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        status, data, headers = replies[min(len(asked), len(replies) - 1)]
        asked.append(scope["path"])
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        body = data if isinstance(data, bytes) else orjson.dumps(data)
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    return app, asked


GOOD = (200, {"features": {"a": [1]}, "statuses": {"a": "PRESENT"}, "types": {"a": "int64"}}, {})
BUSY = (503, {"error": "too many requests at once"}, {"retry-after": "0"})


def test_a_busy_server_is_asked_again() -> None:
    app, asked = answering(BUSY, BUSY, GOOD)

    with running(app) as url, FeatureClient(url, retry=SOON) as client:
        assert client.get("shop", [ROW]).to_dicts() == [{"a": 1}]

    assert len(asked) == 3


@pytest.mark.parametrize(
    ("reply", "error", "tries"),
    [
        pytest.param(BUSY, ServerUnavailable, 3, id="busy for ever"),
        pytest.param((504, {"error": "late"}, {}), ServerUnavailable, 3, id="late for ever"),
        pytest.param((500, {"error": "a fault"}, {}), ServerFailed, 1, id="a fault"),
        pytest.param((200, b"<html>", {}), UnexpectedAnswer, 1, id="a page"),
        pytest.param((200, {"features": {}}, {}), UnexpectedAnswer, 1, id="another answer"),
        pytest.param((404, b"not here", {}), UnexpectedAnswer, 1, id="another server"),
        pytest.param((302, b"", {"location": "/login"}), UnexpectedAnswer, 1, id="a redirect"),
    ],
)
def test_each_failure_has_its_own_error(
    reply: tuple[int, Any, dict[str, str]], error: type[ClientError], tries: int
) -> None:
    app, asked = answering(reply)

    async def call(url: str) -> None:
        async with AsyncFeatureClient(url, retry=SOON) as client:
            await client.get("shop", [ROW])

    with running(app) as url:
        with FeatureClient(url, retry=SOON) as client, pytest.raises(error):
            client.get("shop", [ROW])
        with pytest.raises(error):
            asyncio.run(call(url))

    assert len(asked) == 2 * tries


def test_a_server_that_is_not_there_is_tried_as_often_as_asked() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses connections
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with FeatureClient(address, retry=SOON) as client, pytest.raises(ServerUnavailable) as gone:
            client.get("shop", [ROW])

    assert (gone.value.attempts, gone.value.status) == (3, None)
    assert f"no answer from {address} after 3 tries" in str(gone.value)


def test_who_is_busy_is_named_without_the_password_of_its_url() -> None:
    app, _ = answering(BUSY)

    async def call(url: str) -> None:
        async with AsyncFeatureClient(url, retry=SOON) as client:
            await client.get("shop", [ROW])

    with running(app) as url:
        secret = url.replace("http://", "http://me:hidden@")
        with FeatureClient(secret, retry=SOON) as client, pytest.raises(ServerUnavailable) as busy:
            client.get("shop", [ROW])
        with pytest.raises(ServerUnavailable) as later:
            asyncio.run(call(secret))

    for told in (str(busy.value), str(later.value)):
        assert told.startswith(f"{url} cannot answer now: ")
        assert "hidden" not in told


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        once = Retry(attempts=1)
        with FeatureClient(address, timeout_s=0.1, retry=once) as client, pytest.raises(ServerUnavailable):
            client.get("shop", [ROW])


def test_waits_grow_are_spread_and_never_exceed_the_longest() -> None:
    retry = Retry(attempts=9, first_wait_s=0.1, longest_wait_s=1.0, random=random.Random(5))

    waits = [[retry.wait_s(attempt) for _ in range(200)] for attempt in range(1, 9)]

    assert all(0.0 <= one <= min(1.0, 0.1 * 2**i) for i, many in enumerate(waits) for one in many)
    assert max(waits[3]) > 0.4
    assert len(set(waits[0])) == 200
    assert 0.5 <= retry.wait_s(1, "0") + 0.5 <= 0.6
    assert retry.wait_s(1, "30") == 1.0
    with pytest.raises(ValueError, match="attempts is 0"):
        Retry(attempts=0)


def test_what_cannot_be_sent_is_said_before_it_is_sent(client: FeatureClient) -> None:
    with pytest.raises(TypeError, match="object"):
        client.get("shop", [{"user_id": object()}])


def test_the_package_is_imported_without_httpx_or_anything_else_of_ours() -> None:
    told = (
        "import sys, mlflow_core.client\n"
        "ours = [m for m in sys.modules if m.startswith('mlflow_core.') and 'client' not in m]\n"
        "print(ours + [m for m in sys.modules if m.partition('.')[0] in %r])"
    )
    heavy = ("httpx", "pydantic", "feast", "pyarrow", "pandas", "numpy", "orjson")

    answer = subprocess.run(
        [sys.executable, "-c", told % (heavy,)], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "[]"


def test_an_answer_that_cannot_be_decoded_is_unexpected_and_no_error_of_httpx() -> None:
    app, asked = answering((200, b"this is not compressed", {"content-encoding": "gzip"}))

    async def call(url: str) -> None:
        async with AsyncFeatureClient(url, retry=SOON) as client:
            await client.get("shop", [ROW])

    with running(app) as url:
        with (
            FeatureClient(url, retry=SOON) as client,
            pytest.raises(UnexpectedAnswer, match="cannot be read"),
        ):
            client.get("shop", [ROW])
        with pytest.raises(UnexpectedAnswer, match="cannot be read"):
            asyncio.run(call(url))

    assert len(asked) == 2


def test_a_deletion_is_made_once_since_a_later_one_would_erase_more() -> None:
    app, asked = answering((504, {"error": "late"}, {}))

    async def call(url: str) -> None:
        async with AsyncFeatureClient(url, retry=SOON) as client:
            await client.delete("user", {"user_id": 1})

    with running(app) as url:
        with FeatureClient(url, retry=SOON) as client, pytest.raises(ServerUnavailable) as lost:
            client.delete("user", {"user_id": 1})
        with pytest.raises(ServerUnavailable):
            asyncio.run(call(url))

    assert lost.value.attempts == 1
    assert len(asked) == 2
