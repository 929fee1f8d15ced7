"""Feast's response to an online request, over our answer: its protobuf message is made only if somebody touches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.value_type import ValueType

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.feast.online_request import OnlineRequest, response_proto
from mlflow_core.online.answer import Answer
from mlflow_core.spec import DType

__all__ = ["LazyOnlineResponse"]

# Types whose values a message gives back just as they were put into it.
_PLAIN = frozenset(
    {DType.BOOL, DType.INT64, DType.INT32, DType.FLOAT64, DType.FLOAT32, DType.STRING, DType.BYTES}
)


class LazyOnlineResponse(OnlineResponse):
    """Feast's response; see ``OnlineResponse`` for its methods.

    Args:
        request: What was asked.
        answer: What was found.
        entity_rows: The entity rows, by column.
        version_metadata: Tell each view's version.
    """

    def __init__(
        self,
        request: OnlineRequest,
        answer: Answer,
        entity_rows: Mapping[str, Sequence[Any]],
        *,
        version_metadata: bool = False,
    ) -> None:
        self._request = request
        self._answer = answer
        self._entity_rows = entity_rows
        self._version_metadata = version_metadata

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:  # type: ignore[override]
        """The message that stock Feast's stores make for every request.

        Raises:
            ServeError: A list with a null, which Feast's values cannot carry.
        """
        return response_proto(
            self._request, self._answer, self._entity_rows, version_metadata=self._version_metadata
        )

    @cached_property
    def _feature_types(self) -> dict[str, ValueType]:  # type: ignore[override]
        return self._request.feature_types

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """Return the values by column, as Feast's own response does.

        Args:
            include_event_timestamps: Add each feature's times as ``{feature}__ts``, whole seconds since epoch.
        """
        if not self._is_plain():
            whole: dict[str, Any] = super().to_dict(include_event_timestamps)
            return whole
        response: dict[str, Any] = {}
        keys = [name for name in self._request.key_types if name in self._entity_rows]
        for name in keys:
            response[name] = [_native(value) for value in self._entity_rows[name]]
            if include_event_timestamps:
                response[name + TIMESTAMP_POSTFIX] = [0] * len(response[name])
        for name in self._request.columns:
            response[name] = list(self._answer.columns[name])
            if include_event_timestamps:
                times = self._answer.event_times[name]
                response[name + TIMESTAMP_POSTFIX] = [(time or 0) // 1_000_000 for time in times]
        return response

    def _is_plain(self) -> bool:
        """Say whether the message would give back the very values that it is made of."""
        request, types = self._request, self._answer.types
        if "proto" in self.__dict__ or request.native:
            return False
        if not {*request.key_types.values()} <= _PLAIN or ValueType.JSON in self._feature_types.values():
            return False
        return all(name in types and dtype_of_arrow(name, types[name]) in _PLAIN for name in request.columns)


def _native(value: Any) -> Any:
    """Return a key as a message gives it back: no number of numpy's, and NaN, pandas' missing key, as None."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value != value else value
