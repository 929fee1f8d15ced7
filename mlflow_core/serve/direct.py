"""Requests for features that are answered without a task of their own: begun as they come in, told as the store answers.

Everything that is unusual is left to the ordinary way (``app``) before anything has been done: a request that is wrong, a
server that is full, a store that has to be waited for, on-demand functions. So there is one place that refuses, and what
is answered here is what the ordinary way would have answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Found
from mlflow_core.serve.deadline import Deadline
from mlflow_core.serve.failures import failed
from mlflow_core.serve.feature_requests import FeatureRequest
from mlflow_core.serve.messages import Reply
from mlflow_core.serve.metrics import Metrics
from mlflow_core.serve.routes import Routes
from mlflow_core.serve.whole_request import WholeRequest

__all__ = ["Direct"]

_HEADS_S = 1.0


class Direct:
    """Answers whole requests of one application.

    Args:
        routes: What each route answers.
        metrics: Where requests are counted.
        full: Whether the server takes no more requests now.
        longest: Most bytes of a body.
        deadline_s: Longest time for an answer.

    Attributes:
        heads: How long a head may wait for its body before it is uvicorn's.
    """

    def __init__(
        self, routes: Routes, metrics: Metrics, full: Callable[[], bool], longest: int, deadline_s: float
    ) -> None:
        self.routes = routes
        self.metrics = metrics
        self.deadline_s = deadline_s
        self.heads = Deadline(min(_HEADS_S, deadline_s))
        self._full = full
        self._longest = longest

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        request: WholeRequest,
        told: Callable[[Reply], None],
        started: float,
    ) -> bool:
        """Begin to answer.

        Args:
            loop: The running event loop.
            request: The request.
            told: Gets the reply, later.
            started: When its first byte came, by ``perf_counter``.

        Returns:
            Whether it has begun; else this request is for the ordinary way, and nothing has happened.
        """
        target, accept, body = request
        if len(body) > self._longest or self._full():
            return False
        try:
            asked = self.routes.begun(target, body, accept)
        except Exception:
            # Wrong, or not foreseen: the ordinary way is the boundary that says so, to its caller and to nobody else.
            return False
        if asked is None:
            return False
        answering = _Answering(self, target, asked, told, started)
        if not self.routes.reads.read_soon(loop, asked.asked.asks, answering.arrived):
            return False
        self.metrics.in_flight += 1
        return True


class _Answering:
    """A request while the store is asked."""

    __slots__ = ("asked", "direct", "started", "target", "told")

    def __init__(
        self,
        direct: Direct,
        target: bytes,
        asked: FeatureRequest,
        told: Callable[[Reply], None],
        started: float,
    ) -> None:
        self.direct = direct
        self.target = target
        self.asked = asked
        self.told = told
        self.started = started

    def arrived(self, found: list[Found] | StoreError) -> None:
        direct, route = self.direct, self.target.decode()
        direct.metrics.in_flight -= 1
        try:
            if isinstance(found, StoreError):
                raise found
            reply = direct.routes.ended(self.asked, found)
        except Exception as error:
            # The boundary of a request: whatever was not foreseen is its caller's answer and nobody else's.
            reply = failed(route, error, direct.deadline_s)
        direct.metrics.request(route, reply.status, perf_counter() - self.started)
        self.told(reply)
