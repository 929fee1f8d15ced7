"""What each call sends, and how its answer is read: the same for both clients, which only do the sending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from mlflow_core.client.answers import (
    ErasureAnswer,
    FeatureAnswer,
    PredictionAnswer,
    PushAnswer,
    erasure_of,
    features_of,
    predictions_of,
    push_of,
)
from mlflow_core.client.errors import UnexpectedAnswer
from mlflow_core.client.tables import columns_of, is_arrow, rows_of
from mlflow_core.client.values import write_columns, write_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from mlflow_core.client.tables import Rows

__all__ = [
    "ARROW_STREAM",
    "Call",
    "arrow_call",
    "catalogue_call",
    "deletion_call",
    "feature_call",
    "prediction_call",
    "push_call",
]

ARROW_STREAM = "application/vnd.apache.arrow.stream"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Call(Generic[_Answer]):
    """One call.

    Attributes:
        method: HTTP's.
        path: From the server's URL on.
        read: Makes the answer of what the server sent: parsed JSON, or bytes where they are no JSON.
        json: The body as JSON data, or None.
        content: The body as bytes, or None.
        headers: Further headers.
        again: Whether it may be made again by itself when it is not known what became of it.
    """

    method: str
    path: str
    read: Callable[[Any], _Answer]
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    again: bool = True


def feature_call(
    service: str, entities: Rows, request: Rows | None, *, full_feature_names: bool, event_timestamps: bool
) -> Call[FeatureAnswer]:
    """Ask for features as JSON."""
    body = _asked(entities, request) | {"service": service, "types": True}
    if full_feature_names:
        body["full_feature_names"] = True
    if event_timestamps:
        body["event_timestamps"] = True
    return Call("POST", "/v1/features", features_of, body)


def arrow_call(
    service: str, entities: Rows, request: Rows | None, *, full_feature_names: bool, event_timestamps: bool
) -> Call[pa.Table]:
    """Ask for features as Arrow."""
    asked = feature_call(
        service,
        entities,
        request,
        full_feature_names=full_feature_names,
        event_timestamps=event_timestamps,
    )
    return Call(asked.method, asked.path, _read_arrow, asked.json, headers={"accept": ARROW_STREAM})


def prediction_call(
    model: str, entities: Rows, request: Rows | None, *, features: bool
) -> Call[PredictionAnswer]:
    """Ask for predictions."""
    body = _asked(entities, request) | {"types": True}
    if features:
        body["features"] = True
    return Call("POST", f"/v1/predict/{quote(model, safe='@:')}", predictions_of, body)


def push_call(source: str, rows: Rows, token: str | None) -> Call[PushAnswer]:
    """Push rows: an Arrow table as it is, others as JSON.

    A push may be made again whatever became of the first: a row's version is the time of its event, the store keeps
    the greater one, and so the same row a second time, or late, changes nothing.
    """
    path = f"/v1/push/{quote(source, safe='')}"
    if is_arrow(rows):
        headers = {"content-type": ARROW_STREAM, **_bearer(token)}
        return Call("POST", path, push_of, content=_stream(rows), headers=headers)
    return Call("POST", path, push_of, {"df": write_columns(columns_of(rows))}, headers=_bearer(token))


def deletion_call(entity: str, key: Mapping[str, Any], token: str | None) -> Call[ErasureAnswer]:
    """Erase an entity; not made again by itself, since a later erasure also hides what came to be in between."""
    [body] = write_rows([key])
    path = f"/v1/entities/{quote(entity, safe=',')}"
    return Call("DELETE", path, erasure_of, body, headers=_bearer(token), again=False)


def catalogue_call() -> Call[list[dict[str, Any]]]:
    """Ask for the catalogue."""
    return Call("GET", "/v1/services", _catalogue)


def _asked(entities: Rows, request: Rows | None) -> dict[str, Any]:
    body: dict[str, Any] = {"entities": write_rows(rows_of(entities))}
    if request is not None:
        body["request"] = write_rows(rows_of(request))
    return body


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _stream(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return bytes(sink.getvalue())


def _read_arrow(answer: Any) -> pa.Table:
    import pyarrow as pa

    if not isinstance(answer, bytes):
        raise UnexpectedAnswer("the answer is no Arrow stream")
    try:
        return pa.ipc.open_stream(answer).read_all()
    except pa.ArrowInvalid as error:
        raise UnexpectedAnswer(f"the answer is no Arrow stream: {error}") from error


def _catalogue(answer: Any) -> list[dict[str, Any]]:
    services = answer.get("services") if isinstance(answer, dict) else None
    if not isinstance(services, list):
        raise UnexpectedAnswer("the answer is no catalogue")
    return services
