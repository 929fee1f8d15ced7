"""A connection that answers whole requests by itself says and does what uvicorn's own does; what is unusual is uvicorn's."""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.connection import Connection
from mlflow_core.serve.run import Served, application
from tests.serve.bytes_of_requests import (
    DEEP,
    END,
    ENDING,
    FEAST,
    connected,
    feast,
    sent,
    told,
    unusual,
    usual,
)
from tests.serve.pushed_shop import BEARER, SOURCE, pushed_project, row
from tests.serve.shop import NOW, mlcore, running, until
from tests.servers.redis import Server

LIMITS = Limits(refresh_s=60.0, deadline_s=5.0, body_bytes=20_000)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, redis: Server) -> Path:
    lines = f"  backend: redis\n  connection: {redis.url}\n  timeout_s: 4\n"
    root = pushed_project(tmp_path_factory.mktemp("connected"), "connected_shop", store=lines)
    assert mlcore(root, "materialize", "--to", "2024-01-10T10:00Z", "--clock", "2024-01-10T10:10Z") == 0
    return root


def opened(project: Path, **limits: object) -> Application:
    app = application(Served(str(project), clock=NOW, limits=Limits(**{**vars(LIMITS), **limits})))  # type: ignore[arg-type]
    begin = app.direct.begin
    begun: list[bool] = []

    def counted(*args: object) -> bool:
        begun.append(begin(*args))  # type: ignore[arg-type]
        return begun[-1]

    app.direct.begin = counted  # type: ignore[method-assign]
    app.begun = begun  # type: ignore[attr-defined]
    return app


@pytest.fixture(scope="module")
def app(project: Path) -> Application:
    return opened(project)


@pytest.fixture(scope="module")
def ours(app: Application) -> Iterator[str]:
    with running(app) as url:
        assert httpx.post(f"{url}/v1/push/{SOURCE}", json={"rows": [row(1)]}, headers=BEARER).is_success
        assert post(url, FEAST, feast(1)).status_code == 200  # the store's connection is there
        yield url


@pytest.fixture(scope="module")
def uvicorns(project: Path, ours: str) -> Iterator[str]:
    del ours
    with running(opened(project), http="httptools") as url:
        yield url


def post(url: str, path: str, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(url + path, content=body, headers=headers, timeout=30.0)


@pytest.mark.parametrize("name", [*usual(), *unusual()])
def test_every_kind_of_request_is_answered_as_uvicorn_does(
    name: str, app: Application, ours: str, uvicorns: str
) -> None:
    request = {**usual(), **unusual()}[name]
    before = app.begun.count(True)  # type: ignore[attr-defined]
    assert told(ours, [request, END], 0.02) == told(uvicorns, [request, END], 0.02)
    # References are compiled on the ordinary way where nobody has asked for them before.
    directly = (0, 1) if name == "references" else (name in usual() and name != "no rows",)
    assert app.begun.count(True) - before in directly  # type: ignore[attr-defined]


def test_a_request_in_two_parts_is_answered_wherever_it_is_cut(
    app: Application, ours: str, uvicorns: str
) -> None:
    request = sent(FEAST, feast(1), "Accept: */*")
    expected = told(uvicorns, [request, END])
    assert expected.startswith(b"HTTP/1.1 200 OK")
    for cut in range(1, len(request)):
        assert told(ours, [request[:cut], request[cut:] + END], 0.001) == expected, cut
    head, before = len(request) - len(feast(1)), app.begun.count(True)  # type: ignore[attr-defined]
    assert told(ours, [request[:head], request[head:], END], 0.02) == expected
    assert app.begun.count(True) == before + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(60))
def test_any_row_of_requests_in_any_pieces_is_answered_as_uvicorn_does(
    seed: int, ours: str, uvicorns: str
) -> None:
    rng = random.Random(seed)
    rare = [request for name, request in unusual().items() if name not in ENDING]
    kinds = [*usual().values()] * 3 + rare
    whole = b"".join(rng.choices(kinds, k=rng.randint(1, 6))) + END
    cuts = sorted(rng.sample(range(1, len(whole)), min(rng.randint(0, 5), len(whole) - 1)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    pause_s = rng.choice([0.0, 0.002])
    assert told(ours, pieces, pause_s) == told(uvicorns, pieces, pause_s)


def test_a_caller_who_does_not_wait_gets_all_answers_in_order(ours: str) -> None:
    """Requests of their own writes each, so that some come while one is being answered; none is lost or mixed up."""
    rng = random.Random(1)
    users = [rng.choice([1, 2, 99]) for _ in range(400)]
    came = told(ours, [*(sent(FEAST, feast(user)) for user in users), END])
    found = re.findall(rb'"results":\[\{"values":\[(\d+)\]', came)
    assert list(map(int, found)) == users
    assert came.count(b"HTTP/1.1 200 OK") == len(users) + 1


def test_what_nobody_reads_is_not_kept_without_end(app: Application, ours: str) -> None:
    host, port = ours.removeprefix("http://").split(":")
    many = sent(FEAST, feast(*[1] * 400))
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.setblocking(False)
        before, waited = len(app.begun), time.monotonic()  # type: ignore[attr-defined]
        out = b""
        while time.monotonic() - waited < 1.0:  # until nothing is taken any more
            out = out or many
            try:
                out = out[connection.send(out) :]
                waited = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        answered = len(app.begun) - before  # type: ignore[attr-defined]
        assert post(ours, FEAST, feast(1)).status_code == 200
        assert answered < 2_000, "answers of 60 MB that nobody reads"


@contextmanager
def hanging(redis: Server) -> Iterator[None]:
    redis.pause()
    try:
        yield
    finally:
        redis.resume()


def metric(url: str, start: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=30.0).text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(start)), 0.0)


def test_a_caller_who_goes_leaves_nothing_behind(app: Application, ours: str, redis: Server) -> None:
    answered = f'mlcore_requests_total{{route="{FEAST}",status="200"}}'
    before = metric(ours, answered)
    with hanging(redis):
        with ExitStack() as stack:
            for reset in (False, True) * 3:
                one = connected(stack, ours, sent(FEAST, feast(1)) * (1 + reset))
                if reset:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            until(lambda: app.metrics.in_flight == 6)
        time.sleep(0.1)
    until(lambda: app.metrics.in_flight == 0)
    assert metric(ours, answered) >= before + 3
    assert post(ours, FEAST, feast(1)).status_code == 200


def test_full_is_503_and_the_places_come_back(project: Path, redis: Server) -> None:
    app = opened(project, in_flight=3)
    with running(app) as url, ExitStack() as stack:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        with hanging(redis):
            waiting = [connected(stack, url, sent(FEAST, feast(1))) for _ in range(3)]
            until(lambda: app.metrics.in_flight == 3)
            refused = post(url, FEAST, feast(1))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert all(one.recv(4096).startswith(b"HTTP/1.1 200 OK") for one in waiting)
        assert app.metrics.in_flight == 0


def test_the_deadline_is_504_and_a_late_answer_is_nobodys(project: Path, redis: Server) -> None:
    """The store would wait longer than the server does."""
    app = opened(project, deadline_s=0.3)
    with running(app) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        with hanging(redis):
            late = client.post(FEAST, content=feast(2))
        assert (late.status_code, late.json()["degraded"]) == (504, "store")
        assert app.begun[-1] is True  # type: ignore[attr-defined]
        for user in (1, 99, 2, 1):
            assert client.post(FEAST, content=feast(user)).json()["results"][0]["values"] == [user]
        assert app.metrics.in_flight == 0
        assert metric(url, "mlcore_store_failures_total") == 1


def test_the_end_of_the_server_waits_for_what_is_being_answered(project: Path, redis: Server) -> None:
    app = opened(project)
    server = running(app)
    url = server.__enter__()
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        idle = connected(stack, url, sent(FEAST, feast(1)))
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 OK")
        with hanging(redis):
            busy = connected(stack, url, sent(FEAST, feast(2)))
            until(lambda: app.metrics.in_flight == 1)
            ended = pool.submit(server.__exit__, None, None, None)
            assert idle.recv(4096) == b""
            time.sleep(0.3)
            assert not ended.done()
        came = b""
        while part := busy.recv(4096):
            came += part
        ended.result()
    assert came.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\nconnection: close\r\n" in came
    assert b'"values":[2]' in came


def test_idle_connections_are_closed_and_used_ones_are_not(project: Path) -> None:
    app = opened(project)
    with running(app, timeout_keep_alive=1) as url, ExitStack() as stack:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        used = connected(stack, url, b"")
        for _ in range(5):
            used.sendall(sent(FEAST, feast(1)))
            assert used.recv(4096).startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.5)
        started = time.monotonic()
        assert used.recv(4096) == b""
        assert 0.2 < time.monotonic() - started < 5


def test_numbers_are_counted_as_on_the_ordinary_way(ours: str, uvicorns: str) -> None:
    def counted(url: str) -> dict[str, float]:
        lines = httpx.get(f"{url}/metrics", timeout=30.0).text.splitlines()
        wanted = ("mlcore_requests_total", "mlcore_feature_values_total", "mlcore_request_seconds_count")
        wanted += ("mlcore_store_read_seconds_count",)
        return {line.split()[0]: float(line.split()[-1]) for line in lines if line.startswith(wanted)}

    def more(url: str) -> dict[str, float]:
        before = counted(url)
        for request in usual().values():
            told(url, [request, END])
        after = counted(url)
        return {name: value - before.get(name, 0.0) for name, value in after.items()}

    mine, theirs = more(ours), more(uvicorns)
    assert {name: n for name, n in mine.items() if n} == {name: n for name, n in theirs.items() if n}
    assert mine[f'mlcore_requests_total{{route="{FEAST}",status="200"}}'] > 5


def test_a_body_that_does_not_follow_its_head_is_told_in_time(project: Path) -> None:
    """Uvicorn gets what has come, and the limits of bodies with it; meanwhile others are answered."""
    app = opened(project, deadline_s=0.5)
    with running(app) as url, ExitStack() as stack:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        head = sent(FEAST, feast(1))[: -len(feast(1))]
        slow = connected(stack, url, head)
        assert post(url, FEAST, feast(1)).status_code == 200
        started = time.monotonic()
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 5


def test_a_head_at_the_end_of_the_server_gets_its_answer(project: Path) -> None:
    app = opened(project)
    server = running(app)
    url = server.__enter__()
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        slow = connected(stack, url, sent(FEAST, feast(1))[: -len(feast(1))])
        time.sleep(0.2)
        ended = pool.submit(server.__exit__, None, None, None)
        time.sleep(0.3)
        slow.sendall(feast(1))
        came = b""
        while part := slow.recv(4096):
            came += part
        ended.result()
    assert came.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\nconnection: close\r\n" in came


def test_what_is_unforeseen_in_one_request_is_its_own_fault_and_the_next_is_answered(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = opened(project)
    with running(app) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        until(lambda: client.post(FEAST, content=feast(1)).status_code == 200)
        ended = app.direct.routes.ended
        monkeypatch.setattr(app.direct.routes, "ended", lambda *_: 1 // 0)
        failed = client.post(FEAST, content=feast(1))
        monkeypatch.setattr(app.direct.routes, "ended", ended)
        assert (failed.status_code, app.metrics.in_flight) == (500, 0)
        assert "fault" in failed.json()["error"]
        assert client.post(FEAST, content=feast(1)).status_code == 200
    assert app.begun[-2:] == [True, True]  # type: ignore[attr-defined]


def test_what_is_refused_for_its_depth_is_told_and_counted(ours: str) -> None:
    refused = f'mlcore_requests_total{{route="{FEAST}",status="422"}}'
    before = metric(ours, refused)
    answer = post(ours, FEAST, DEEP)
    assert (answer.status_code, answer.json()["name"]) == (422, "user_id")
    assert metric(ours, refused) == before + 1


def test_what_is_unforeseen_as_a_request_is_read_is_the_ordinary_ways(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(project)
    with running(app) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        until(lambda: client.post(FEAST, content=feast(1)).status_code == 200)
        monkeypatch.setattr(app.direct.routes, "begun", lambda *_: 1 // 0)
        assert client.post(FEAST, content=feast(2)).json()["results"][0]["values"] == [2]
        assert (app.begun[-1], app.metrics.in_flight) == (False, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("late", [False, True])
def test_what_is_unforeseen_in_a_request_that_was_held_back_is_nobody_elses(
    late: bool, project: Path, redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read behind the store's callback, or the deadline's, which goes on for whoever else waits."""
    app = opened(project, deadline_s=0.5 if late else 5.0)
    faulty = feast(2, full_feature_names=True)
    with running(app) as url, ExitStack() as stack:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        read = Connection.data_received

        def failing(self: Connection, data: bytes) -> None:
            if not self._answering and data.endswith(faulty):
                raise RuntimeError(data)
            read(self, data)

        monkeypatch.setattr(Connection, "data_received", failing)
        with hanging(redis):
            one = connected(stack, url, sent(FEAST, feast(1)))
            until(lambda: app.metrics.in_flight == 1)
            one.sendall(sent(FEAST, faulty))
            time.sleep(0.1)
            other = connected(stack, url, sent(FEAST, feast(99)))
            until(lambda: app.metrics.in_flight == 2)
            started = time.monotonic()
            if late:
                assert one.recv(4096).startswith(b"HTTP/1.1 504 ")
                assert other.recv(4096).startswith(b"HTTP/1.1 504 ")
                assert time.monotonic() - started < 3, "the store's own timeout"
        if not late:
            assert one.recv(4096).startswith(b"HTTP/1.1 200 OK")
            assert other.recv(4096).startswith(b"HTTP/1.1 200 OK")
        assert post(url, FEAST, feast(1)).status_code == 200
        assert app.metrics.in_flight == 0


def test_what_was_held_back_for_a_caller_who_has_gone_is_not_read(project: Path, redis: Server) -> None:
    app = opened(project)
    with running(app) as url, ExitStack() as stack:
        until(lambda: post(url, FEAST, feast(1)).status_code == 200)
        begun = len(app.begun)  # type: ignore[attr-defined]
        with hanging(redis):
            with ExitStack() as gone:
                one = connected(gone, url, sent(FEAST, feast(1)))
                until(lambda: app.metrics.in_flight == 1)
                one.sendall(sent(FEAST, feast(2)))
                time.sleep(0.1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            time.sleep(0.1)
        until(lambda: app.metrics.in_flight == 0)
        assert len(app.begun) == begun + 1  # type: ignore[attr-defined]
        assert connected(stack, url, sent(FEAST, feast(1))).recv(4096).startswith(b"HTTP/1.1 200 OK")
