"""Bodies that come slowly: bounded together, and each in one deadline from its first part to its last."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.bodies import Bodies
from mlflow_core.serve.refusal import Refusal
from mlflow_core.serve.run import Served, application
from tests.serve.shop import NOW, ROW, running, until


class Caller:
    """One request's parts, each so many seconds after the one before; the last is the end unless it hangs."""

    def __init__(self, parts: Sequence[bytes], pause_s: float = 0.0, *, hangs: bool = False) -> None:
        self.parts, self.pause_s, self.hangs = list(parts), pause_s, hangs

    async def receive(self) -> dict[str, object]:
        await asyncio.sleep(self.pause_s if self.parts else 60)
        part = self.parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.hangs}


def head(length: int | None = None) -> dict[str, object]:
    return {"headers": [] if length is None else [(b"content-length", b"%d" % length)]}


@pytest.mark.parametrize("told", [True, False])
def test_what_is_on_its_way_is_counted_as_promised_or_as_it_comes_and_given_back(told: bool) -> None:
    async def several() -> tuple[int, int, Refusal]:
        bodies = Bodies(longest=100, together=100, seconds=0.5)
        slow = [Caller([b"x" * 40], hangs=True) for _ in range(2)]
        length = 50 if told else None
        tasks = [asyncio.create_task(bodies.read(head(length), one.receive)) for one in slow]
        await asyncio.sleep(0.05)
        held = bodies.reading
        with pytest.raises(Refusal) as refused:
            await bodies.read(head(30 if told else None), Caller([b"x" * 10, b"x" * 20]).receive)
        assert await bodies.read(head(90), Caller([b"y" * 90]).receive) == b"y" * 90  # there at once
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in ends] == [TimeoutError] * 2
        return held, bodies.reading, refused.value

    held, after, refused = asyncio.run(several())
    assert (held, after) == (100 if told else 80, 0)
    assert (refused.status, refused.retry_after_s) == (503, 1)


def test_one_alone_is_read_though_it_is_more_than_all_together_may_be() -> None:
    bodies = Bodies(longest=100, together=10, seconds=5)
    assert asyncio.run(bodies.read(head(60), Caller([b"a" * 30, b"b" * 30]).receive)) == b"a" * 30 + b"b" * 30
    assert bodies.reading == 0


def test_a_body_has_one_deadline_and_not_another_one_after_its_first_part() -> None:
    async def slow() -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await Bodies(100, 100, 1.0).read(head(), Caller([b"a", b"b", b"c"], 0.7).receive)
        return time.monotonic() - started

    assert asyncio.run(slow()) < 1.35  # with a second one of 1 s it would be read


def test_the_server_refuses_slow_bodies_beyond_its_budget_and_serves_the_others(project: Path) -> None:
    limits = Limits(body_bytes=1000, bodies_bytes=2000, deadline_s=3.0)
    app: Application = application(Served(str(project), clock=NOW, limits=limits))
    sent = b"POST /v1/features HTTP/1.1\r\nHost: shop\r\nContent-Length: 900\r\n\r\n{"
    with running(app) as url, ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        slow = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(3)]
        for one in slow[:2]:
            one.sendall(sent)
        until(lambda: app._bodies.reading == 1800)
        slow[2].sendall(sent)
        slow[2].settimeout(30)
        refused = slow[2].recv(4096)
        body = {"service": "shop", "entities": [ROW]}
        assert httpx.post(f"{url}/v1/features", json=body, timeout=30.0).status_code == 200
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refused
        until(lambda: app._bodies.reading == 0)
