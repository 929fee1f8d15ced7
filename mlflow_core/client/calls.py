"""The clients: one connection pool each, a timeout on every call, and a second try where the first may just have
been unlucky. Safe to share between threads (sync) or tasks (async); close them, or use them in a ``with``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlflow_core.client.answers import FeatureAnswer, PredictionAnswer, features_of, predictions_of
from mlflow_core.client.errors import (
    ClientError,
    RequestRefused,
    ServerFailed,
    ServerUnavailable,
    UnexpectedAnswer,
)
from mlflow_core.client.retry import Retry
from mlflow_core.client.values import write_rows

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncFeatureClient", "FeatureClient"]

Rows = Sequence[Mapping[str, Any]]


class FeatureClient:
    """A client of ``mlcore serve`` that waits for its answers.

    Args:
        url: Where the server is, e.g. ``http://127.0.0.1:8000``.
        timeout_s: Longest wait for a connection, and for each part of an answer.
        retry: When a call is tried again.

    Raises:
        ImportError: httpx is not installed.

    Example:
        >>> with FeatureClient("http://127.0.0.1:8000", timeout_s=2.0) as client:
        ...     ask = client.get  # ask("delay_model", [{"carrier": "UA"}], request=[{"distance": 719.0}])
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, retry: Retry | None = None) -> None:
        self._http = _httpx().Client(base_url=url, timeout=timeout_s)
        self._retry = retry or Retry()

    def get(
        self, service: str, entities: Rows, request: Rows | None = None, *, full_feature_names: bool = False
    ) -> FeatureAnswer:
        """Return the features of a service.

        Args:
            service: The feature service.
            entities: One mapping of key columns an entity.
            request: One mapping of request fields an entity, where the service's on-demand features read any.
            full_feature_names: Call features ``{view}__{feature}``.

        Raises:
            RequestRefused: The request is wrong; names what is, and the nearest that exists.
            ServerUnavailable: There was no answer, also not at the last try.
            ServerFailed: The server has a fault.
            UnexpectedAnswer: The answer is not that of such a server.
        """
        return features_of(
            self._post("/v1/features", _feature_body(service, entities, request, full_feature_names))
        )

    def predict(
        self, model: str, entities: Rows, request: Rows | None = None, *, features: bool = False
    ) -> PredictionAnswer:
        """Return a model's predictions.

        Args:
            model: The model's name, ``name@alias`` or ``name:version``.
            entities: One mapping of key columns an entity.
            request: One mapping of request fields an entity.
            features: Return the features that the predictions were made from, too.

        Raises:
            ClientError: As for ``get``.
        """
        return predictions_of(
            self._post(f"/v1/predict/{model}", _prediction_body(entities, request, features))
        )

    def services(self) -> list[dict[str, Any]]:
        """Return the catalogue: each service with its keys, request fields and features."""
        return _catalogue(self._call("GET", "/v1/services", None))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        transport = _httpx().TransportError
        for attempt in range(1, self._retry.attempts + 1):
            try:
                response = self._http.request(method, path, json=body)
            except transport as error:
                _raise_if_last(error, attempt, self._retry, self._http)
                time.sleep(self._retry.wait_s(attempt))
                continue
            if attempt < self._retry.attempts and self._retry.is_passing(response.status_code):
                time.sleep(self._retry.wait_s(attempt, response.headers.get("retry-after")))
                continue
            return _read(response, attempt, self._http)
        raise AssertionError("the last try returns or raises")


class AsyncFeatureClient:
    """The same client for ``async`` code; see ``FeatureClient`` for arguments, answers and errors."""

    def __init__(self, url: str, *, timeout_s: float = 5.0, retry: Retry | None = None) -> None:
        self._http = _httpx().AsyncClient(base_url=url, timeout=timeout_s)
        self._retry = retry or Retry()

    async def get(
        self, service: str, entities: Rows, request: Rows | None = None, *, full_feature_names: bool = False
    ) -> FeatureAnswer:
        """Return the features of a service; see ``FeatureClient.get``."""
        body = _feature_body(service, entities, request, full_feature_names)
        return features_of(await self._call("POST", "/v1/features", body))

    async def predict(
        self, model: str, entities: Rows, request: Rows | None = None, *, features: bool = False
    ) -> PredictionAnswer:
        """Return a model's predictions; see ``FeatureClient.predict``."""
        body = _prediction_body(entities, request, features)
        return predictions_of(await self._call("POST", f"/v1/predict/{model}", body))

    async def services(self) -> list[dict[str, Any]]:
        """Return the catalogue; see ``FeatureClient.services``."""
        return _catalogue(await self._call("GET", "/v1/services", None))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        transport = _httpx().TransportError
        for attempt in range(1, self._retry.attempts + 1):
            try:
                response = await self._http.request(method, path, json=body)
            except transport as error:
                _raise_if_last(error, attempt, self._retry, self._http)
                await asyncio.sleep(self._retry.wait_s(attempt))
                continue
            if attempt < self._retry.attempts and self._retry.is_passing(response.status_code):
                await asyncio.sleep(self._retry.wait_s(attempt, response.headers.get("retry-after")))
                continue
            return _read(response, attempt, self._http)
        raise AssertionError("the last try returns or raises")


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


def _feature_body(service: str, entities: Rows, request: Rows | None, full: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"service": service, "entities": write_rows(entities), "types": True}
    if request is not None:
        body["request"] = write_rows(request)
    if full:
        body["full_feature_names"] = True
    return body


def _prediction_body(entities: Rows, request: Rows | None, features: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"entities": write_rows(entities), "types": True}
    if request is not None:
        body["request"] = write_rows(request)
    if features:
        body["features"] = True
    return body


def _raise_if_last(error: Exception, attempt: int, retry: Retry, http: Any) -> None:
    if attempt < retry.attempts:
        return
    said = str(error) or type(error).__name__
    tries = "1 try" if attempt == 1 else f"{attempt} tries"
    raise ServerUnavailable(
        f"no answer from {_address(http)} after {tries}: {said}", attempts=attempt
    ) from error


def _read(response: httpx.Response, attempt: int, http: Any) -> Any:
    status = response.status_code
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
        return ServerUnavailable(what, status=status, attempts=attempt)
    if 400 <= status < 500:
        name, nearest, hint = said.get("name"), said.get("nearest") or (), said.get("hint")
        return RequestRefused(said["error"], status=status, name=name, nearest=nearest, hint=hint)
    return ServerFailed(said["error"], status=status, attempts=attempt)


def _catalogue(answer: Any) -> list[dict[str, Any]]:
    services = answer.get("services")
    if not isinstance(services, list):
        raise UnexpectedAnswer("the answer is no catalogue")
    return services
