"""The HTTP server as one ASGI callable: routes, limits, errors, background refresh. No framework in between.

========================  ======  ====================================================================
route                     method  answer
========================  ======  ====================================================================
``/v1/features``          POST    ``{"features": {name: [values]}, "statuses": {name: [...]}, ...}``
``/v1/predict/{model}``   POST    ``{"predictions": [...], "model": {"name", "version", "alias"}, ...}``
``/v1/services``          GET     the catalogue
``/livez``, ``/readyz``   GET     the process runs; it can answer, and what is wrong where something is
``/metrics``              GET     Prometheus' text format
========================  ======  ====================================================================

How values are written is in ``wire``. An error is ``{"error", "name", "nearest", "hint"}`` with 400 (no JSON), 404
(no such service, model or route), 405, 408 (the body did not arrive in time), 409 (the model's features have
changed), 413, 422 (anything else that is wrong with the request), 500 (our fault: the cause is logged, never sent),
503 with Retry-After (too much at once, or the store is down) or 504 (no answer in time). Reads of the store block, so
they run in a few threads; what does not fit into the bounded queue before these is refused at once instead of waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from mlflow_core.errors import MlcoreError, ServeError, StoreError
from mlflow_core.serve.features import Features
from mlflow_core.serve.messages import Receive, Reply, Scope, Send, json_reply, read_body, send_reply
from mlflow_core.serve.metrics import CONTENT_TYPE, Metrics
from mlflow_core.serve.predict import Predictor
from mlflow_core.serve.refusal import Refusal
from mlflow_core.serve.routes import Routes
from mlflow_core.telemetry import get_logger

__all__ = ["Application", "Limits"]

_log = get_logger("serve")
_PREDICT = "/v1/predict/"


@dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Args:
        in_flight: Requests that are worked on or wait for a thread; one more is refused with 503.
        threads: Threads that read the store.
        body_bytes: Longest body of a request; a longer one is refused with 413.
        deadline_s: Longest time for an answer; then 504.
        refresh_s: Seconds between two looks at the registry and the aliases of models.
    """

    in_flight: int = 64
    threads: int = 4
    body_bytes: int = 16 * 1024 * 1024
    deadline_s: float = 10.0
    refresh_s: float = 2.0


class Application:
    """An ASGI application that serves one project.

    Args:
        features: The project's features.
        predictor: The project's models; None where there are none.
        limits: How much it takes on.

    Any ASGI server runs it; ``mlcore serve`` does so under uvicorn.
    """

    def __init__(
        self, features: Features, predictor: Predictor | None = None, limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self._features = features
        self._predictor = predictor
        self._routes = Routes(features, predictor, self.metrics)
        self._pool = ThreadPoolExecutor(self.limits.threads, thread_name_prefix="serve")
        self._aside = ThreadPoolExecutor(2, thread_name_prefix="serve-aside")
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's message, as ASGI asks for."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise ValueError(f'"{scope["type"]}" is not served here')

    def refresh(self) -> None:
        """Look for another version of the registry and of models; what cannot be had is logged and shown.

        Called in the background every ``limits.refresh_s``.
        """
        try:
            if self._features.refresh():
                _log.info("another registry version is served")
                for name, why in self._features.catalogue.problems.items():
                    _log.warning(
                        "a service of the registry cannot be served", extra={"service": name, "why": why}
                    )
        except MlcoreError as error:
            _log.warning("the registry cannot be read", extra={"why": str(error)})
        if self._predictor is not None:
            try:
                for reference in self._predictor.models.refresh():
                    _log.info("another model version is served", extra={"model": reference})
            except MlcoreError as error:
                _log.warning("models cannot be looked up", extra={"why": str(error)})
        catalogue = self._features.catalogue
        self.metrics.problems.set(len(catalogue.problems) + (self._features.registry_problem is not None))

    def close(self) -> None:
        """End the threads, and close registry, store and metadata; the end of the server's life does this."""
        self._pool.shutdown(wait=True)
        self._aside.shutdown(wait=True)
        self._features.close()
        if self._predictor is not None:
            self._predictor.models.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        watch: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                watch = asyncio.create_task(self._watch())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if watch is not None:
                    watch.cancel()
                    with suppress(asyncio.CancelledError):
                        await watch
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.refresh_s)
            try:
                await loop.run_in_executor(self._aside, self.refresh)
            except Exception:
                # The boundary of a background task: without it one surprise would end all later refreshes.
                _log.exception("looking for changes failed")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        route = scope["path"] if scope["path"] in _METHODS else "other"
        if scope["path"].startswith(_PREDICT):
            route = f"{_PREDICT}{{model}}"
        try:
            reply = await self._reply(route, scope, receive)
        except Refusal as error:
            if error.status >= 500:
                _log.warning("a request was not answered", extra={"route": route, "why": str(error)})
            reply = _refused(error)
        except ConnectionResetError:
            return
        except ServeError as error:
            told = Refusal(error.what, object=error.object, expected=error.expected, hint=error.hint)
            reply = _refused(told)
        except StoreError as error:
            _log.error("the online store cannot be read", extra={"why": str(error)})
            reply = _refused(
                Refusal("the online store cannot be read", status=503, hint="See /readyz.", retry_after_s=1)
            )
        except Exception:
            # The boundary of the process: the caller learns that it was our fault, the log learns why.
            _log.exception("a request failed", extra={"route": route})
            reply = _refused(Refusal("the server has a fault; its log holds the cause", status=500))
        self.metrics.request(route, reply.status, time.perf_counter() - started)
        await send_reply(send, reply, head_only=scope["method"] == "HEAD")

    async def _reply(self, route: str, scope: Scope, receive: Receive) -> Reply:
        allowed = _METHODS.get(route)
        if allowed is None:
            raise Refusal(
                f'there is no route "{scope["path"]}"', status=404, name=scope["path"], hint=_ROUTES
            )
        if scope["method"] not in allowed:
            told = ", ".join(allowed)
            error = Refusal(f"{route} answers {told}, not {scope['method']}", status=405)
            return json_reply(error.body(), 405, ((b"allow", told.encode()),))
        if route == "/livez":
            return json_reply({"status": "alive"})
        if route == "/metrics":
            return Reply(200, self.metrics.text(), CONTENT_TYPE.encode())
        if route == "/v1/services":
            return self._routes.services()
        if route == "/readyz":
            return await self._in_thread(self._aside, self._routes.ready)
        self._refuse_if_full()
        body = await self._body(scope, receive)
        self._refuse_if_full()
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        if route == "/v1/features":
            return await self._work(partial(self._routes.features, body))
        model = unquote(scope["path"].removeprefix(_PREDICT))
        return await self._work(partial(self._routes.predict, model, body))

    def _refuse_if_full(self) -> None:
        if self._in_flight >= self.limits.in_flight:
            raise Refusal("too many requests at once", status=503, hint="Try again.", retry_after_s=1)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Read the body before the request takes a place: callers that send slowly keep nobody else out."""
        try:
            reading = read_body(scope, receive, self.limits.body_bytes)
            return await asyncio.wait_for(reading, self.limits.deadline_s)
        except TimeoutError:
            raise Refusal(
                f"the body did not arrive within {self.limits.deadline_s:g} s", status=408
            ) from None

    async def _work(self, work: Callable[[], Reply]) -> Reply:
        """Run blocking work; its place is free again when it has ended, not when the caller gives up."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._leave)
        return await self._by_deadline(future)

    async def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], Reply]) -> Reply:
        return await self._by_deadline(asyncio.get_running_loop().run_in_executor(pool, work))

    async def _by_deadline(self, future: asyncio.Future[Reply]) -> Reply:
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.limits.deadline_s)
        except TimeoutError:
            raise Refusal(
                f"no answer within {self.limits.deadline_s:g} s", status=504, hint="See /readyz."
            ) from None

    def _leave(self, ended: asyncio.Future[Reply] | None = None) -> None:
        if ended is not None and not ended.cancelled():
            ended.exception()  # asked for, so that asyncio does not complain where nobody waits any more
        self._in_flight -= 1
        self.metrics.in_flight.set(self._in_flight)


_METHODS: dict[str, tuple[str, ...]] = {
    "/v1/features": ("POST",),
    f"{_PREDICT}{{model}}": ("POST",),
    "/v1/services": ("GET", "HEAD"),
    "/livez": ("GET", "HEAD"),
    "/readyz": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
}
_ROUTES = f"There are {', '.join(_METHODS)}."


def _refused(error: Refusal) -> Reply:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if error.retry_after_s is not None:
        headers = ((b"retry-after", str(error.retry_after_s).encode()),)
    return json_reply(error.body(), error.status, headers)
