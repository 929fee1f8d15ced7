"""The HTTP server as one ASGI callable: routes, limits, errors, background refresh. No framework in between.

==========================  ======  ==================================================================
route                       method  answer
==========================  ======  ==================================================================
``/get-online-features``    POST    as Feast's own server answers: see ``feast_json``
``/v1/features``            POST    ``{"features": {name: [values]}, "statuses": {name: ...}, ...}``, or Arrow
``/v1/predict/{model}``     POST    ``{"predictions": [...], "model": {"name", "version", "alias"}, ...}``, and
                                    ``"outputs": [names]`` where each prediction is a list of several
``/v1/push/{source}``       POST    ``{"rows", "written", "views"}``: rows of latest-value views; needs a token
``/push``                   POST    the same, as Feast's own clients send it; needs a token
``/v1/entities/{entity}``   DELETE  what was erased where; needs a token
``/v1/services``            GET     the catalogue
``/openapi.json``           GET     all of this as OpenAPI 3.1: see ``openapi``
``/livez``, ``/readyz``     GET     the process runs; it can answer, and what is wrong where something is
``/health``                 GET     as ``/livez``, where Feast's server has it
``/metrics``                GET     Prometheus' text format
==========================  ======  ==================================================================

How values are written is in ``wire``. An error is ``{"error", "name", "nearest", "hint"}`` with 400 (no JSON, or no whole
Arrow stream), 401 (no token or a wrong one), 403 (nobody may write, or not this caller), 404 (no such service, model,
push source, entity or route), 405, 408 (the body did not arrive in time), 409 (the model's features have changed), 413, 415, 422 (anything
else that is wrong with the request), 500 (our fault: the cause is logged, never sent), 501 (a write to a store that is
Feast's to write), 503 with Retry-After (too much at once, or a part is not there) or 504 (no answer in time); where the
store is why, with ``"degraded": "store"``. The event loop reads stores that can be read without blocking; others are
read in a few threads, and written in others. What does not fit into the bounded queue before these is refused at once
instead of waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from mlflow_core.config.principal import Principal
from mlflow_core.errors import MetadataError, MlcoreError
from mlflow_core.metadata.tokens import Role
from mlflow_core.serve.bodies import Bodies
from mlflow_core.serve.direct import Direct
from mlflow_core.serve.failures import failed
from mlflow_core.serve.features import Features
from mlflow_core.serve.issued import HOLDS_S
from mlflow_core.serve.messages import (
    Receive,
    Reply,
    Scope,
    Send,
    header_of,
    json_reply,
    send_reply,
)
from mlflow_core.serve.metrics import CONTENT_TYPE, Metrics
from mlflow_core.serve.openapi import PATHS, openapi
from mlflow_core.serve.predict import Predictor
from mlflow_core.serve.refusal import Refusal
from mlflow_core.serve.routes import Routes
from mlflow_core.serve.threads import Threads
from mlflow_core.serve.writes import WriteAccess, Writes
from mlflow_core.telemetry import get_logger

__all__ = ["Application", "Limits"]

_log = get_logger("serve")
_CLOSING_S = 10.0
_PREDICT, _PUSH, _ENTITIES = "/v1/predict/", "/v1/push/", "/v1/entities/"


@dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Args:
        in_flight: Requests that are worked on or wait for a thread; one more is refused with 503.
        threads: Threads that read stores which block, and score models.
        body_bytes: Longest body of a request; a longer one is refused with 413.
        bodies_bytes: All bodies of which only a part has come, together; one more is refused with 503.
        deadline_s: Longest time for an answer; then 504.
        refresh_s: Seconds between two looks at the registry and the aliases of models, and at tokens.
        tokens_hold_s: Seconds for which what was read of the tokens in the metadata database counts.
    """

    in_flight: int = 256
    threads: int = 4
    body_bytes: int = 16 * 1024 * 1024
    bodies_bytes: int = 256 * 1024 * 1024
    deadline_s: float = 10.0
    refresh_s: float = 2.0
    tokens_hold_s: float = HOLDS_S


class Application:
    """An ASGI application that serves one project.

    Args:
        features: The project's features.
        predictor: The project's models; None where there are none.
        limits: How much it takes on.
        shared_metrics: A folder for the numbers of all workers of one port; None where there is one process.
        access: Who may write; None lets nobody.

    Any ASGI server runs it; ``mlcore serve`` does so under uvicorn.

    Attributes:
        direct: Answers requests for features without ASGI, to a connection that can (``connection``).
    """

    def __init__(
        self,
        features: Features,
        predictor: Predictor | None = None,
        limits: Limits | None = None,
        shared_metrics: Path | None = None,
        access: WriteAccess | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = Metrics(shared_metrics)
        self._bodies = Bodies(self.limits.body_bytes, self.limits.bodies_bytes, self.limits.deadline_s)
        self._features = features
        self._predictor = predictor
        self._threads = Threads(self.limits.threads, self.limits.deadline_s, "serve")
        self._aside = Threads(2, self.limits.deadline_s, "serve-aside")
        self._watching = Threads(1, self.limits.deadline_s, "serve-watch")
        self._routes = Routes(features, predictor, self.metrics, self._threads)
        self._writing = Threads(2, self.limits.deadline_s, "serve-write")
        self._writes = Writes(features, access, self._writing)
        self.direct = Direct(
            self._routes, self.metrics, self._full, self.limits.body_bytes, self.limits.deadline_s
        )
        self._answers: dict[str, _Worked] = {
            "/get-online-features": ("/get-online-features", "POST", self._feast),
            "/v1/features": ("/v1/features", "POST", self._v1_features),
            "/push": ("/push", "POST", self._written),
        }
        self._prefixed: dict[str, _Worked] = {
            _PREDICT: (f"{_PREDICT}{{model}}", "POST", self._predict),
            _PUSH: (f"{_PUSH}{{source}}", "POST", self._written),
            _ENTITIES: (f"{_ENTITIES}{{entity}}", "DELETE", self._written),
        }
        self._shown: dict[str, Callable[[], Awaitable[Reply]]] = {
            "/livez": self._livez,
            "/health": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics_text,
            "/v1/services": self._services,
            "/openapi.json": self._openapi,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's message, as ASGI asks for."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise ValueError(f'"{scope["type"]}" is not served here')

    def refresh(self) -> None:
        """Look for another version of the registry and of models, and for tokens; what cannot be had is logged and shown.

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
        try:
            self._writes.refresh()
        except MetadataError as error:
            _log.warning("tokens cannot be read", extra={"why": str(error)})
        if self._predictor is not None:
            try:
                for reference in self._predictor.models.refresh():
                    _log.info("another model version is served", extra={"model": reference})
            except MlcoreError as error:
                _log.warning("models cannot be looked up", extra={"why": str(error)})

    def close(self) -> None:
        """End the threads, and close registry, store and metadata; the end of the server's life does this.

        Work that does not end is waited for a few seconds and then left behind; it does not keep the process.
        """
        self._threads.close()
        self._aside.close()
        self._watching.close()
        self._writing.close()
        self._writes.close()
        self._features.close()
        if self._predictor is not None:
            self._predictor.models.close()

    async def _closed(self) -> None:
        """Close, in a thread: a store may hang as it is closed, too."""
        closing = Threads(1, _CLOSING_S, "serve-close")
        try:
            await closing.run(self.close)
        except TimeoutError:
            _log.warning("not everything ended in time", extra={"seconds": _CLOSING_S})
        finally:
            closing.close(0.0)

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
                await self._routes.close()
                self.metrics.share()
                await self._closed()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.limits.refresh_s)
            try:
                # Of two looks at once the one that ends last could put an older version over a newer.
                if not self._watching.left_behind:
                    await self._watching.run(self.refresh)
            except TimeoutError:
                self._features.registry_problem = "looking for changes takes longer than a request may"
                _log.warning(self._features.registry_problem)
            except Exception:
                # The boundary of a background task: without it one surprise would end all later refreshes.
                _log.exception("looking for changes failed")
            try:
                self.metrics.share()
            except OSError as error:
                _log.warning("the numbers of this worker cannot be written", extra={"why": str(error)})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        path = scope["path"]
        route, method, work = self._answers.get(path) or self._named(path)
        try:
            if work is not None and scope["method"] == method:
                reply = await self._worked(work, scope, receive)
            else:
                reply = await self._told(route, method, scope)
        except ConnectionResetError:
            return
        except Exception as error:
            reply = failed(route, error, self.limits.deadline_s)
        self.metrics.request(route, reply.status, perf_counter() - started)
        await send_reply(send, reply, head_only=scope["method"] == "HEAD")

    def _named(self, path: str) -> tuple[str, str, _Work | None]:
        """Find the route of a path that holds a name."""
        for prefix, found in self._prefixed.items():
            if path.startswith(prefix):
                return found
        return (path if path in self._shown else "other"), "GET", None

    async def _worked(self, work: _Work, scope: Scope, receive: Receive) -> Reply:
        self._refuse_if_full()
        if work == self._written:  # before the body: who may not write sends none
            await self._principal(scope)
        body = await self._body(scope, receive)
        self._refuse_if_full()
        metrics = self.metrics
        metrics.in_flight += 1
        try:
            return await work(scope, body)
        finally:
            metrics.in_flight -= 1

    async def _told(self, route: str, method: str, scope: Scope) -> Reply:
        """Answer what is only looked at, or say why not."""
        show = self._shown.get(route)
        if show is None and route == "other":
            raise Refusal(
                f'there is no route "{scope["path"]}"',
                status=404,
                name=scope["path"],
                hint=f"There are {', '.join(PATHS)}.",
            )
        allowed = (method,) if show is None else ("GET", "HEAD")
        if show is None or scope["method"] not in allowed:
            told = ", ".join(allowed)
            error = Refusal(f"{route} answers {told}, not {scope['method']}", status=405)
            return json_reply(error.body(), 405, ((b"allow", told.encode()),))
        return await show()

    def _full(self) -> bool:
        behind = self._threads.left_behind + self._writing.left_behind
        return self.metrics.in_flight + behind >= self.limits.in_flight

    def _refuse_if_full(self) -> None:
        if self._full():
            raise Refusal("too many requests at once", status=503, hint="Try again.", retry_after_s=1)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Read the body before the request takes a place: callers that send slowly keep nobody else out."""
        try:
            return await self._bodies.read(scope, receive)
        except TimeoutError:
            raise Refusal(
                f"the body did not arrive within {self.limits.deadline_s:g} s", status=408
            ) from None

    async def _feast(self, scope: Scope, body: bytes) -> Reply:
        del scope
        return await self._routes.feast(body)

    async def _v1_features(self, scope: Scope, body: bytes) -> Reply:
        return await self._routes.features(body, header_of(scope, b"accept"))

    async def _predict(self, scope: Scope, body: bytes) -> Reply:
        return await self._routes.predict(scope["path"].removeprefix(_PREDICT), body)

    async def _written(self, scope: Scope, body: bytes) -> Reply:
        principal, path = await self._principal(scope), scope["path"]
        if path.startswith(_PUSH):
            kind = header_of(scope, b"content-type")
            return await self._writes.push(path.removeprefix(_PUSH), body, kind, principal)
        if path.startswith(_ENTITIES):
            return await self._writes.erase(path.removeprefix(_ENTITIES), body, principal)
        return await self._writes.feast_push(body, principal)

    async def _principal(self, scope: Scope) -> Principal:
        needed: Role = "admin" if scope["path"].startswith(_ENTITIES) else "write"
        return await self._writes.principal(header_of(scope, b"authorization"), needed)

    async def _livez(self) -> Reply:
        return json_reply({"status": "alive"})

    async def _readyz(self) -> Reply:
        return await self._aside.run(self._routes.ready)

    async def _services(self) -> Reply:
        return self._routes.services()

    async def _openapi(self) -> Reply:
        return json_reply(await self._aside.run(openapi, self._features.catalogue))

    async def _metrics_text(self) -> Reply:
        self.metrics.now_us, self.metrics.freshness = self._features.freshness()
        catalogue = self._features.catalogue
        self.metrics.problems = len(catalogue.problems) + (self._features.registry_problem is not None)
        return Reply(200, self.metrics.text(), CONTENT_TYPE.encode())


_Work = Callable[[Scope, bytes], Awaitable[Reply]]
_Worked = tuple[str, str, _Work]
"""A route, its method, and what answers it."""
