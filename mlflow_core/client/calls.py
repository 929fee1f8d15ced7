"""The clients: one connection pool each, a timeout on every call, and a second try where the first may just have
been unlucky. Safe to share between threads (sync) or tasks (async); close them, or use them in a ``with``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mlflow_core.client.answers import ErasureAnswer, FeatureAnswer, PredictionAnswer, PushAnswer
from mlflow_core.client.errors import (
    ClientError,
    RequestRefused,
    ServerFailed,
    ServerUnavailable,
    UnexpectedAnswer,
)
from mlflow_core.client.retry import Retry
from mlflow_core.client.sent import (
    ARROW_STREAM,
    Call,
    arrow_call,
    catalogue_call,
    deletion_call,
    feature_call,
    prediction_call,
    push_call,
)

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

    from mlflow_core.client.tables import Rows

__all__ = ["AsyncFeatureClient", "FeatureClient"]

_Answer = TypeVar("_Answer")
_ONCE = Retry(attempts=1)


class FeatureClient:
    """A client of ``mlcore serve`` that waits for its answers.

    Entities, request fields and rows may be a list of mappings, a mapping of columns, a pandas DataFrame or an Arrow
    table.

    Args:
        url: Where the server is, e.g. ``http://127.0.0.1:8000``.
        timeout_s: Longest wait for a connection, and for each part of an answer.
        retry: When a call is tried again.
        token: The bearer token that pushes and deletions are sent with; no other call is.

    Raises:
        ImportError: httpx is not installed.

    Example:
        >>> with FeatureClient("http://127.0.0.1:8000", timeout_s=2.0) as client:
        ...     ask = client.get  # ask("delay_model", {"carrier": ["UA", "B6"]}, request={"distance": [719.0, 187.0]})
    """

    def __init__(
        self, url: str, *, timeout_s: float = 5.0, retry: Retry | None = None, token: str | None = None
    ) -> None:
        self._http = _httpx().Client(base_url=url, timeout=timeout_s)
        self._retry = retry or Retry()
        self._token = token

    def get(
        self,
        service: str,
        entities: Rows,
        request: Rows | None = None,
        *,
        full_feature_names: bool = False,
        event_timestamps: bool = False,
    ) -> FeatureAnswer:
        """Return the features of a service.

        Args:
            service: The feature service.
            entities: Key columns, one row an entity.
            request: Request fields, one row an entity, where the service's on-demand features read any.
            full_feature_names: Call features ``{view}__{feature}``.
            event_timestamps: Return when each value's event was, too.

        Raises:
            RequestRefused: The request is wrong; names what is, and the nearest that exists.
            ServerUnavailable: There was no answer, also not at the last try.
            ServerFailed: The server has a fault.
            UnexpectedAnswer: The answer is not that of such a server.
        """
        return self._made(
            feature_call(
                service,
                entities,
                request,
                full_feature_names=full_feature_names,
                event_timestamps=event_timestamps,
            )
        )

    def get_arrow(
        self,
        service: str,
        entities: Rows,
        request: Rows | None = None,
        *,
        full_feature_names: bool = False,
        event_timestamps: bool = False,
    ) -> pa.Table:
        """Return the features of a service as an Arrow table, as the server sent it: for many rows.

        Returns:
            A column for each feature; ``{feature}__status`` where its values are not all PRESENT; with
            ``event_timestamps`` also ``{feature}__time``.

        Raises:
            ImportError: pyarrow is not installed.
            ClientError: As for ``get``.
        """
        return self._made(
            arrow_call(
                service,
                entities,
                request,
                full_feature_names=full_feature_names,
                event_timestamps=event_timestamps,
            )
        )

    def predict(
        self, model: str, entities: Rows, request: Rows | None = None, *, features: bool = False
    ) -> PredictionAnswer:
        """Return a model's predictions.

        Args:
            model: The model's name, ``name@alias`` or ``name:version``.
            entities: Key columns, one row an entity.
            request: Request fields, one row an entity.
            features: Return the features that the predictions were made from, too.

        Raises:
            ClientError: As for ``get``.
        """
        return self._made(prediction_call(model, entities, request, features=features))

    def push(self, source: str, rows: Rows, *, token: str | None = None) -> PushAnswer:
        """Write rows of latest values to the online store; an Arrow table travels as it is.

        Tried again as reads are: a row's version is its event's time, so that writing it twice changes nothing.

        Args:
            source: The push source.
            rows: Its key columns, features, event time, and created time where it has one.
            token: Instead of the client's own.

        Raises:
            RequestRefused: The rows are wrong (nothing was written), or the token is.
            ClientError: As for ``get``; a part of the rows may be written, and pushing again is harmless.
        """
        return self._made(push_call(source, rows, token or self._token))

    def delete(self, entity: str, key: Mapping[str, Any], *, token: str | None = None) -> ErasureAnswer:
        """Erase an entity for good: online values, cached layouts, datasets, and its events from sight.

        Never tried again by itself: an erasure hides what was before its own moment, so that another one, after an
        answer that was lost, would also erase what came to be in between. Asking again is right where that is meant.

        Args:
            entity: The entity's name, or its key columns with commas between them.
            key: All of its key columns with their values.
            token: Instead of the client's own.

        Raises:
            ServerUnavailable: There was no answer; the entity may be erased, or a part of it.
            ClientError: As for ``get``.
        """
        return self._made(deletion_call(entity, key, token or self._token))

    def services(self) -> list[dict[str, Any]]:
        """Return the catalogue: each service with its keys, request fields and features."""
        return self._made(catalogue_call())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _made(self, call: Call[_Answer]) -> _Answer:
        httpx, retry = _httpx(), self._retry if call.again else _ONCE
        for attempt in range(1, retry.attempts + 1):
            try:
                response = self._http.request(call.method, call.path, **_body(call))
            except httpx.TransportError as error:
                _raise_if_last(error, attempt, retry, self._http)
                time.sleep(retry.wait_s(attempt))
                continue
            except httpx.HTTPError as error:
                raise _unreadable(error, attempt) from error
            if attempt < retry.attempts and retry.is_passing(response.status_code):
                time.sleep(retry.wait_s(attempt, response.headers.get("retry-after")))
                continue
            return call.read(_read(response, attempt, self._http))
        raise AssertionError("the last try returns or raises")


class AsyncFeatureClient:
    """The same client for ``async`` code; see ``FeatureClient`` for arguments, answers and errors."""

    def __init__(
        self, url: str, *, timeout_s: float = 5.0, retry: Retry | None = None, token: str | None = None
    ) -> None:
        self._http = _httpx().AsyncClient(base_url=url, timeout=timeout_s)
        self._retry = retry or Retry()
        self._token = token

    async def get(
        self,
        service: str,
        entities: Rows,
        request: Rows | None = None,
        *,
        full_feature_names: bool = False,
        event_timestamps: bool = False,
    ) -> FeatureAnswer:
        """Return the features of a service; see ``FeatureClient.get``."""
        return await self._made(
            feature_call(
                service,
                entities,
                request,
                full_feature_names=full_feature_names,
                event_timestamps=event_timestamps,
            )
        )

    async def get_arrow(
        self,
        service: str,
        entities: Rows,
        request: Rows | None = None,
        *,
        full_feature_names: bool = False,
        event_timestamps: bool = False,
    ) -> pa.Table:
        """Return the features of a service as an Arrow table; see ``FeatureClient.get_arrow``."""
        return await self._made(
            arrow_call(
                service,
                entities,
                request,
                full_feature_names=full_feature_names,
                event_timestamps=event_timestamps,
            )
        )

    async def predict(
        self, model: str, entities: Rows, request: Rows | None = None, *, features: bool = False
    ) -> PredictionAnswer:
        """Return a model's predictions; see ``FeatureClient.predict``."""
        return await self._made(prediction_call(model, entities, request, features=features))

    async def push(self, source: str, rows: Rows, *, token: str | None = None) -> PushAnswer:
        """Write rows of latest values to the online store; see ``FeatureClient.push``."""
        return await self._made(push_call(source, rows, token or self._token))

    async def delete(self, entity: str, key: Mapping[str, Any], *, token: str | None = None) -> ErasureAnswer:
        """Erase an entity for good; see ``FeatureClient.delete``."""
        return await self._made(deletion_call(entity, key, token or self._token))

    async def services(self) -> list[dict[str, Any]]:
        """Return the catalogue; see ``FeatureClient.services``."""
        return await self._made(catalogue_call())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _made(self, call: Call[_Answer]) -> _Answer:
        httpx, retry = _httpx(), self._retry if call.again else _ONCE
        for attempt in range(1, retry.attempts + 1):
            try:
                response = await self._http.request(call.method, call.path, **_body(call))
            except httpx.TransportError as error:
                _raise_if_last(error, attempt, retry, self._http)
                await asyncio.sleep(retry.wait_s(attempt))
                continue
            except httpx.HTTPError as error:
                raise _unreadable(error, attempt) from error
            if attempt < retry.attempts and retry.is_passing(response.status_code):
                await asyncio.sleep(retry.wait_s(attempt, response.headers.get("retry-after")))
                continue
            return call.read(_read(response, attempt, self._http))
        raise AssertionError("the last try returns or raises")


def _body(call: Call[Any]) -> dict[str, Any]:
    """What httpx is told of a call beside where it goes."""
    return {"json": call.json, "content": call.content, "headers": dict(call.headers)}


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise ImportError("The client needs httpx: pip install mlflow-core[client]") from error
    return httpx


def _address(http: Any) -> str:
    """Return where a client asks, without a password that its URL may hold."""
    url = http.base_url
    return f"{url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")


def _raise_if_last(error: Exception, attempt: int, retry: Retry, http: Any) -> None:
    if attempt < retry.attempts:
        return
    said = str(error) or type(error).__name__
    tries = "1 try" if attempt == 1 else f"{attempt} tries"
    raise ServerUnavailable(
        f"no answer from {_address(http)} after {tries}: {said}", attempts=attempt
    ) from error


def _unreadable(error: Exception, attempt: int) -> UnexpectedAnswer:
    """Say that something was answered which is no answer, e.g. not compressed as its head has it."""
    said = str(error) or type(error).__name__
    return UnexpectedAnswer(f"the answer cannot be read: {said}", attempts=attempt)


def _read(response: httpx.Response, attempt: int, http: Any) -> Any:
    """Return an answer's JSON, or its bytes where it is an Arrow stream."""
    status, kind = response.status_code, response.headers.get("content-type", "")
    if status == 200 and kind.startswith(ARROW_STREAM):
        return response.content
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if status == 200:
        if not isinstance(answer, dict):
            raise UnexpectedAnswer("the answer is no JSON object", status=status)
        return answer
    said = answer if isinstance(answer, dict) and isinstance(answer.get("error"), str) else None
    if said is None:
        raise UnexpectedAnswer(f"status {status} without an explanation", status=status, attempts=attempt)
    raise _explained(status, said, attempt, _address(http))


def _explained(status: int, said: Mapping[str, Any], attempt: int, address: str) -> ClientError:
    if status in (503, 504, 429):
        what = f"{address} cannot answer now: {said['error']}"
        return ServerUnavailable(what, status=status, attempts=attempt, degraded=said.get("degraded"))
    if 400 <= status < 500:
        name, nearest, hint = said.get("name"), said.get("nearest") or (), said.get("hint")
        return RequestRefused(said["error"], status=status, name=name, nearest=nearest, hint=hint)
    return ServerFailed(said["error"], status=status, attempts=attempt)
