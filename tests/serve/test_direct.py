"""What is answered without a task is read once and kept no longer than it is needed."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import httpx
import orjson
import pytest

from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.serve.app import Application
from mlflow_core.serve.connection import Connection
from mlflow_core.serve.whole_request import WholeRequests
from tests.serve.bytes_of_requests import FEAST, OURS, connected, feast, sent
from tests.serve.shop import until


def test_a_store_that_has_to_be_waited_for_is_not_tried_first(
    app: Application, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    monkeypatch.setattr(app.direct, "begin", lambda *args: tried.append(args))
    for _ in range(2):
        assert http.post(FEAST, content=feast(1)).status_code == 200
    assert tried == []


def test_a_cluster_has_to_be_waited_for_and_one_redis_has_not() -> None:
    assert RedisBackend("redis://127.0.0.1:1/0", "shop").reads_soon
    assert not RedisBackend("redis+cluster://127.0.0.1:1", "shop").reads_soon


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (FEAST, {"feature_service": "shop", "entities": {"user_id": ["x"], "basket": ["y"]}}),
        (OURS, {"service": "shop", "entities": [{"user_id": "x", "basket": "y"}]}),
    ],
)
def test_on_demand_functions_are_seen_before_rows_are_looked_at(
    path: str, body: dict[str, object], app: Application
) -> None:
    assert app.direct.routes.begun(path.encode(), orjson.dumps(body), b"") is None


def test_a_request_that_was_handed_out_or_given_back_leaves_nothing_behind() -> None:
    requests = WholeRequests({FEAST.encode()})
    body = b"x" * 10_000
    for data in (sent(FEAST, body, "Accept: */*"), sent("/elsewhere", body)):
        whole = requests.read(data)
        assert whole == ((FEAST.encode(), b"*/*", body) if FEAST.encode() in data else data)
        heard = requests._heard
        assert (requests.head, heard.target, heard.accept, heard.body, heard.begun) == (
            b"",
            b"",
            None,
            b"",
            0,
        )


def test_a_connection_that_was_reset_leaves_no_timer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Connection] = []
    ended = Connection.connection_lost

    def noted(self: Connection, exc: Exception | None) -> None:
        before = self.timeout_keep_alive_task
        ended(self, exc)
        assert before is not None
        assert before.cancelled()
        lost.append(self)

    monkeypatch.setattr(Connection, "connection_lost", noted)
    with ExitStack() as stack:
        one = connected(stack, url, sent(FEAST, feast(1)))
        assert one.recv(4096).startswith(b"HTTP/1.1 200 OK")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    until(lambda: lost, 5.0)
    assert lost[0].timeout_keep_alive_task is None
