"""The JSON of Feast's own feature server: what its clients send to ``/get-online-features``, and what they get.

::

    {"feature_service": "name", "entities": {"user_id": [1, 2]}, "full_feature_names": false}
    {"features": ["view:feature", ...], "entities": {...}}

    {"metadata": {"feature_names": ["user_id", ...]},
     "results": [{"values": [1, 2], "statuses": ["PRESENT", ...], "event_timestamps": ["...Z", ...]}, ...]}

Entity columns come first, then the features. A time is whole seconds since the epoch, as Feast has it; NaN and
infinities are text, bytes base64. Fields that Feast does not know are ignored, as Feast does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from mlflow_core.online.answer import Answer, Status
from mlflow_core.serve.messages import json_object
from mlflow_core.serve.refusal import Refusal
from mlflow_core.serve.stamps import stamps
from mlflow_core.serve.wire import Writer, column_writer
from mlflow_core.spec import DType

__all__ = ["FeastAsked", "FeastWriter", "feast_asked"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FeastAsked(NamedTuple):
    """The body of a request.

    Attributes:
        entities: Values by entity column and request field.
        service: The feature service, or None.
        features: References ``view:feature``, where no service is named.
        full_feature_names: Call features ``{view}__{feature}``.
        versions: Tell the views' versions, too.
    """

    entities: Mapping[str, Sequence[Any]]
    service: str | None
    features: tuple[str, ...]
    full_feature_names: bool
    versions: bool


def feast_asked(body: bytes) -> FeastAsked:
    """Read the body of a request.

    Args:
        body: The bytes.

    Raises:
        Refusal: It is no JSON (400), no object, or lacks what it needs (422).
    """
    given = json_object(body, _EXAMPLE)
    entities = given.get("entities")
    if entities.__class__ is not dict or not set(map(type, entities.values())) <= _LISTS:
        raise Refusal('field "entities" is no object of lists', name="entities", expected=_EXAMPLE)
    service, features = given.get("feature_service"), given.get("features") or ()
    if service is not None and not isinstance(service, str):
        raise Refusal('field "feature_service" is no text', name="feature_service", expected=_EXAMPLE)
    if features and not (isinstance(features, list) and all(isinstance(one, str) for one in features)):
        raise Refusal(
            'field "features" is no list of texts', name="features", expected='["view:feature", ...]'
        )
    if not service and not features:
        raise Refusal('neither "feature_service" nor "features" says what is wanted', expected=_EXAMPLE)
    full, versions = given.get(_FLAGS[0], False), given.get(_FLAGS[1], False)
    if full.__class__ is not bool or versions.__class__ is not bool:
        name = next(name for name in _FLAGS if not isinstance(given.get(name, False), bool))
        raise Refusal(f'field "{name}" is no boolean', name=name, expected="true or false")
    return FeastAsked(entities, service or None, tuple(features), full, versions)


class FeastWriter:
    """Writes the answers of one reader; what does not change between requests is written once.

    Args:
        keys: Key columns and their types.
        features: Features and their types, in output order.
        versions: Feast's version of each view by its name, for requests that ask for them.
    """

    def __init__(
        self, keys: Mapping[str, DType], features: Mapping[str, DType], versions: Mapping[str, int]
    ) -> None:
        self._keys = [(name, _writer(dtype)) for name, dtype in keys.items()]
        self._features = [(name, _writer(dtype)) for name, dtype in features.items()]
        names = orjson.dumps([*keys, *features])
        told = orjson.dumps([{"name": name, "version": version} for name, version in versions.items()])
        self._head = b'{"metadata":{"feature_names":%b},"results":[' % names
        self._versioned_head = b'{"metadata":{"feature_names":%b,"feature_view_metadata":%b},"results":[' % (
            names,
            told,
        )

    def body(
        self, answer: Answer, entity_rows: Mapping[str, Sequence[Any]], *, versions: bool = False
    ) -> bytes:
        """Return an answer as Feast's server would write it.

        Args:
            answer: The features, with their times.
            entity_rows: Checked key columns.
            versions: Tell the views' versions.
        """
        parts = [self.head(entity_rows, versions=versions)]
        tails: dict[tuple[int, int], bytes] = {}
        columns, statuses, times = answer.columns, answer.statuses, answer.event_times
        for name, write in self._features:
            values, status, time = columns[name], statuses[name], times[name]
            # Columns of one view share these; they live as long as the answer, so their ids are theirs alone.
            shared = (id(status), id(time))
            tail = tails.get(shared)
            if tail is None:
                tail = tails[shared] = _tail(status, time)
            parts += (_VALUES, orjson.dumps(values if write is None else write(values)), tail)
        return self.ended(b"".join(parts))

    def head(self, entity_rows: Mapping[str, Sequence[Any]], *, versions: bool = False) -> bytes:
        """Return an answer up to its features: the names, and the entity columns."""
        parts = [self._versioned_head if versions else self._head]
        for name, write in self._keys:
            values = entity_rows[name]
            parts += (
                _VALUES,
                orjson.dumps(values if write is None else write(values)),
                _key_tail(len(values)),
            )
        return b"".join(parts)

    @staticmethod
    def ended(text: bytes) -> bytes:
        """Return an answer with its end."""
        return (text[:-1] if text.endswith(b"},") else text) + b"]}"


_EXAMPLE = '{"feature_service": "...", "entities": {"column": [...]}}'
_LISTS = {list}
_FLAGS = ("full_feature_names", "include_feature_view_version_metadata")
_VALUES = b'{"values":'


@lru_cache(maxsize=64)  # of up to 10,000 rows, which are 300 kB
def _key_tail(n_rows: int) -> bytes:
    return _tail((Status.PRESENT,) * n_rows, (None,) * n_rows)


def _tail(statuses: Sequence[Status], times: Sequence[int | None]) -> bytes:
    told = orjson.dumps([status.value for status in statuses])
    return b',"statuses":%b,"event_timestamps":%b},' % (told, stamps(times))


def _writer(dtype: DType) -> Writer | None:
    if dtype.item is DType.INT64:
        return None  # Feast writes integers of any size as numbers
    of_item = _ITEMS.get(dtype.item)
    if of_item is None:
        return column_writer(dtype)
    if dtype.item is dtype:
        return lambda values: [None if value is None else of_item(value) for value in values]
    return lambda values: [
        None if many is None else [None if one is None else of_item(one) for one in many] for many in values
    ]


def _seconds(moment: datetime) -> int:
    return int((moment - _EPOCH) // timedelta(seconds=1))


_ITEMS: dict[DType, Callable[[Any], Any]] = {
    DType.TIMESTAMP: _seconds,
    DType.BYTES: lambda value: base64.b64encode(value).decode(),
    DType.UUID: str,
}
