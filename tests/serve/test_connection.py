"""A connection that answers whole requests by itself says and does what uvicorn's own does; what is unusual is uvicorn's."""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.run import Served, application
from tests.serve.pushed_shop import BEARER, SOURCE, pushed_project, row
from tests.serve.shop import NOW, mlcore, running, until
from tests.servers.redis import Server, redis_server

LIMITS = Limits(refresh_s=60.0, deadline_s=5.0, body_bytes=20_000)
END = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# They end a connection at once: what uvicorn says of requests before and behind them depends on how they come in.
ENDING = {
    "upgrade",
    "last",
    "two lengths",
    "length and chunks",
    "no HTTP",
    "no header",
    "line feeds",
    "junk behind",
}
FEAST, OURS = "/get-online-features", "/v1/features"


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with redis_server() as server:
        yield server


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


def feast(*users: object, service: str = "plain", **more: object) -> bytes:
    return orjson.dumps({"feature_service": service, "entities": {"user_id": users}, **more})


def compact(*users: object, service: str = "plain", **more: object) -> bytes:
    return orjson.dumps({"service": service, "entities": [{"user_id": one} for one in users], **more})


def post(url: str, path: str, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(url + path, content=body, headers=headers, timeout=30.0)


def sent(
    path: str, body: bytes, *headers: str, start: str = "POST", version: str = "1.1", length: bool = True
) -> bytes:
    lines = [f"{start} {path} HTTP/{version}", "Host: shop", *headers]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def usual() -> dict[str, bytes]:
    """Requests of which most are answered directly."""
    tills = orjson.dumps({"feature_service": "tills", "entities": {"till_id": [1, 7]}})
    references = orjson.dumps({"features": ["spending:orders_24h"], "entities": {"user_id": [1]}})
    arrow = "Accept: application/vnd.apache.arrow.stream"
    return {
        "one": sent(FEAST, feast(1)),
        "two, other spelling": sent(FEAST, feast(2, 1, full_feature_names=True), "accept: */*", "X-Y: z"),
        "unknown key": sent(FEAST, feast(1, 99)),
        "null key": sent(FEAST, feast(1, None)),
        "no rows": sent(FEAST, feast()),
        "versions": sent(FEAST, feast(1, include_feature_view_version_metadata=True)),
        "text and lists": sent(FEAST, tills),
        "references": sent(FEAST, references),
        "ours": sent(OURS, compact(1)),
        "ours, more": sent(OURS, compact(1, 2, types=True, event_timestamps=True)),
        "ours, arrow": sent(OURS, compact(1, 2), arrow),
        "chunks at once": sent(FEAST, chunked(feast(1)), "Transfer-Encoding: chunked", length=False),
        "kept alive": sent(FEAST, feast(2), "Connection: keep-alive"),
    }


def unusual() -> dict[str, bytes]:
    """Requests that are uvicorn's, or refused."""
    on_demand = orjson.dumps({"feature_service": "shop", "entities": {"user_id": [1], "basket": [2.0]}})
    return {
        "no JSON": sent(FEAST, b"{"),
        "no object": sent(FEAST, b"[]"),
        "another type": sent(FEAST, feast("x")),
        "no service": sent(FEAST, feast(1, service="none")),
        "unknown field": sent(OURS, compact(1, nothing=1)),
        "on demand": sent(FEAST, on_demand),
        "too large": sent(FEAST, b"x" * 20_001),
        "empty": sent(FEAST, b""),
        "query": sent(FEAST + "?x=1", feast(1)),
        "quoted": sent("/get%2Donline-features", feast(1)),
        "absolute": sent("http://shop" + FEAST, feast(1)),
        "elsewhere": sent("/nowhere", feast(1)),
        "HEAD": sent(FEAST, b"", start="HEAD", length=False),
        "GET": sent("/health", b"", start="GET", length=False),
        "PUT": sent(FEAST, feast(1), start="PUT"),
        "services": sent("/v1/services", b"", start="GET", length=False),
        "old": sent(FEAST, feast(1), "Connection: keep-alive", version="1.0"),
        "last": sent(FEAST, feast(1), "Connection: close"),
        "expects": sent(FEAST, feast(1), "Expect: 100-continue"),
        "upgrade": sent(FEAST, feast(1), "Connection: Upgrade", "Upgrade: h2c"),
        "empty line first": b"\r\n" + sent(FEAST, feast(1)),
        "two lengths": sent(FEAST, feast(1), "Content-Length: 3"),
        "length and chunks": sent(FEAST, chunked(feast(1)), "Transfer-Encoding: chunked"),
        "no HTTP": b"POST nothing\r\n\r\n",
        "no header": sent(FEAST, feast(1), "no header"),
        "line feeds": sent(FEAST, feast(1)).replace(b"\r\n", b"\n"),
        "junk behind": sent(FEAST, feast(1)) + b"junk",
    }


def told(url: str, pieces: Sequence[bytes], pause_s: float = 0.0) -> bytes:
    """Send pieces on one connection, and return all that comes until its end; the date, which goes on, is taken out."""
    host, port = url.removeprefix("http://").split(":")
    came = b""
    with socket.create_connection((host, int(port)), 10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                if pause_s:
                    time.sleep(pause_s)
            while part := connection.recv(1 << 16):
                came += part
        except ConnectionError:
            pass  # reset by who does not read what is too much
    return re.sub(rb"\r\ndate: [^\r]*", b"", came)


@pytest.mark.parametrize("name", [*usual(), *unusual()])
def test_every_kind_of_request_is_answered_as_uvicorn_does(
    name: str, app: Application, ours: str, uvicorns: str
) -> None:
    request = {**usual(), **unusual()}[name]
    assert told(ours, [request, END], 0.02) == told(uvicorns, [request, END], 0.02)
    if name in usual() and name != "no rows":
        assert app.begun[-1] is True or name == "references"  # type: ignore[attr-defined]


def test_a_request_in_two_parts_is_answered_wherever_it_is_cut(ours: str, uvicorns: str) -> None:
    request = sent(FEAST, feast(1), "Accept: */*")
    expected = told(uvicorns, [request, END])
    assert expected.startswith(b"HTTP/1.1 200 OK")
    for cut in range(1, len(request)):
        assert told(ours, [request[:cut], request[cut:] + END], 0.001) == expected, cut


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


def connected(stack: ExitStack, url: str, data: bytes) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = stack.enter_context(socket.create_connection((host, int(port)), 30))
    connection.sendall(data)
    return connection


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
