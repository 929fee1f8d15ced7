"""The answers of ``/v1/features``: compact JSON, or one Arrow record batch for those who ask for many rows.

JSON has a list of values a feature; where all of a feature's values have one status it is told once instead of once
a row. Arrow has the features as columns of their own types, and for each a column ``{feature}__status`` unless all
of its values are PRESENT; with times ``{feature}__time`` too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from mlflow_core.config.times import format_time
from mlflow_core.errors import StoredRowError, UsageError
from mlflow_core.online.answer import Answer, Status
from mlflow_core.serve.wire import column_writer
from mlflow_core.spec import DType

__all__ = ["ARROW_STREAM", "CompactWriter", "arrow_body", "takes_arrow"]

ARROW_STREAM = b"application/vnd.apache.arrow.stream"


class CompactWriter:
    """Writes the answers of one reader as JSON.

    Args:
        features: Features and their types, in output order.
    """

    def __init__(self, features: Mapping[str, DType]) -> None:
        self._writers = {name: column_writer(dtype) for name, dtype in features.items()}
        self._types = {name: str(dtype) for name, dtype in features.items()}

    def data(self, answer: Answer, *, times: bool = False, types: bool = False) -> dict[str, Any]:
        """Return an answer as JSON data: features and statuses, and what else was asked for."""
        columns = answer.columns
        features = {
            name: columns[name] if write is None else write(columns[name])
            for name, write in self._writers.items()
        }
        statuses = {name: _told(some) for name, some in answer.statuses.items()}
        data: dict[str, Any] = {"features": features, "statuses": statuses}
        if times:
            data["event_timestamps"] = {
                name: [None if time is None else _shown(time) for time in some]
                for name, some in answer.event_times.items()
            }
        if types:
            data["types"] = self._types
        return data

    def body(self, answer: Answer, *, times: bool = False, types: bool = False) -> bytes:
        """Return an answer as JSON; see ``data``."""
        return orjson.dumps(self.data(answer, times=times, types=types))


def arrow_body(answer: Answer, *, times: bool = False) -> bytes:
    """Return an answer as an Arrow IPC stream of one record batch.

    Args:
        answer: The features.
        times: Return the values' times, too.
    """
    columns: dict[str, pa.Array] = {}
    for name, values in answer.columns.items():
        columns[name] = pa.array(values, answer.types[name])
        statuses = answer.statuses[name]
        if any(status is not Status.PRESENT for status in statuses):
            told = pa.array([status.value for status in statuses], pa.string())
            columns[f"{name}__status"] = told.dictionary_encode()
        if times:
            columns[f"{name}__time"] = pa.array(answer.event_times[name], pa.int64()).cast(_TIME)
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def takes_arrow(accept: bytes) -> bool:
    """Say whether a caller wants Arrow: it names the type, and does not like JSON better (RFC 9110, section 12.5.1).

    Args:
        accept: The ``Accept`` header.

    Example:
        >>> takes_arrow(b"application/vnd.apache.arrow.stream, */*;q=0.5"), takes_arrow(b"*/*")
        (True, False)
    """
    if b"arrow" not in accept and b"arrow" not in accept.lower():
        return False
    liked: dict[bytes, float] = {}
    for one in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in one.split(b";"))
        liked[kind] = _weight(parameters)
    arrow = liked.get(ARROW_STREAM, 0.0)
    json = next((liked[kind] for kind in _JSON_RANGES if kind in liked), 0.0)
    return arrow > 0.0 and arrow >= json


_JSON_RANGES = (b"application/json", b"application/*", b"*/*")  # the narrowest counts


def _weight(parameters: Sequence[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0  # what cannot be read is not wanted
    return 1.0


_TIME = pa.timestamp("us", tz="UTC")


def _shown(time: int) -> str:
    try:
        return format_time(time)
    except UsageError as error:
        raise StoredRowError(f"a stored time: {error.what}", object="online store") from error


def _told(statuses: Sequence[Status]) -> str | list[str]:
    if statuses and (isinstance(statuses, tuple) or statuses.count(statuses[0]) == len(statuses)):
        return str(statuses[0].value)
    return [status.value for status in statuses]
