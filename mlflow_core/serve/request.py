"""What a caller asks for: rows of keys and request fields, checked against what the service reads.

A row's keys and request fields may stand together (as in Feast) or apart (``entities`` and ``request``); a name
that stands in both must have one value. Everything that is wrong is refused with its name and the nearest one
that exists; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_core.online.keys import shortened
from mlflow_core.serve.messages import json_object
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.served import ServedService
from mlflow_core.serve.wire import read_text, read_value
from mlflow_core.spec import DType

__all__ = [
    "MAX_ENTITIES",
    "Asked",
    "asked_of_json",
    "checked_columns",
    "columns_of_rows",
    "columns_of_text",
    "mistyped",
]

MAX_ENTITIES = 10_000
_FIELDS = ("service", "entities", "request", "full_feature_names", "event_timestamps", "types", "features")


@dataclass(frozen=True)
class Asked:
    """The body of a request.

    Attributes:
        entities: One mapping of key columns an entity.
        request: One mapping of request fields an entity, or None.
        service: The feature service; None for a prediction, whose model names it.
        full_feature_names: Call features ``{view}__{feature}``.
        event_timestamps: Return the values' times, too.
        types: Return the features' types, too.
        features: With a prediction return the features it was made from.
    """

    entities: Sequence[Mapping[str, Any]]
    request: Sequence[Mapping[str, Any]] | None = None
    service: str | None = None
    full_feature_names: bool = False
    event_timestamps: bool = False
    types: bool = False
    features: bool = False


def asked_of_json(body: bytes, *, needs_service: bool) -> Asked:
    """Read the body of a request.

    Args:
        body: The bytes.
        needs_service: Whether it must name a service.

    Raises:
        Refusal: It is no JSON (400), no object, has a field that does not exist, or one of another type (422).
    """
    given = json_object(body, '{"entities": [{...}], ...}')
    for name in given:
        if name not in _FIELDS:
            raise unknown(f'the body has a field "{name}", which nothing reads', name, _FIELDS, status=422)
    if needs_service and not isinstance(given.get("service"), str):
        raise Refusal(
            'field "service" is missing or no text', name="service", expected="a feature service's name"
        )
    flags = ("full_feature_names", "event_timestamps", "types", "features")
    for name in flags:
        if not isinstance(given.get(name, False), bool):
            raise Refusal(f'field "{name}" is no boolean', name=name, expected="true or false")
    return Asked(
        entities=_rows(given.get("entities"), "entities"),
        request=None if given.get("request") is None else _rows(given["request"], "request"),
        service=given.get("service"),
        **{name: given.get(name, False) for name in flags},
    )


def columns_of_rows(service: ServedService, asked: Asked) -> dict[str, Sequence[Any]]:
    """Return a request's rows as columns of checked values.

    Args:
        service: What is asked.
        asked: The request.

    Returns:
        Every key column and request field of the service, each of shape (n_rows,); of a service that has none a
        column without a name, which tells how many rows there are.

    Raises:
        Refusal: Too many rows; a column that is unknown, missing, or of another type; a contradiction.
    """
    rows = _merged(service, asked)
    columns: dict[str, Sequence[Any]] = {}
    for name, read in service.readers:
        try:
            columns[name] = read([row[name] for row in rows])
        except KeyError:
            at = next(i for i, row in enumerate(rows) if name not in row)
            raise _missing(service, name, at, rows[at]) from None
        except ValueError:
            raise mistyped(name, service.columns[name], [row[name] for row in rows]) from None
    return columns or {"": [None] * len(rows)}


def checked_columns(service: ServedService, given: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Return a request's columns as columns of checked values; see ``columns_of_rows``.

    Args:
        service: What is asked.
        given: JSON values by entity column and request field.
    """
    if len(given) > len(service.columns):
        _refuse_unknown(service, given)
    columns: dict[str, Sequence[Any]] = {}
    n_rows: int | None = None
    for name, read in service.readers:
        values = given.get(name)
        if values is None:
            _refuse_unknown(service, given)
            raise _missing(service, name, None, given)
        if n_rows is None:
            n_rows = len(values)
            if n_rows > MAX_ENTITIES:
                raise _too_many(n_rows, "entities")
        elif len(values) != n_rows:
            told = ", ".join(f"{one} {len(some)}" for one, some in given.items())
            raise Refusal(f"the entity columns have different lengths: {told}", name=name)
        try:
            columns[name] = read(values)
        except ValueError:
            raise mistyped(name, service.columns[name], values) from None
    return columns


def columns_of_text(service: ServedService, given: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return ``key=value`` words of a command line as one row of checked values; see ``columns_of_rows``."""
    _refuse_unknown(service, given)
    columns: dict[str, list[Any]] = {}
    for name, dtype in service.columns.items():
        if name not in given:
            raise _missing(service, name, None, given)
        try:
            columns[name] = [read_text(given[name], dtype)]
        except ValueError:
            raise _of_another_type(name, dtype, given[name], "") from None
    return columns


def _rows(given: Any, field: str) -> list[Mapping[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise Refusal(
            f'field "{field}" is no list of objects', name=field, expected=f'"{field}": [{{...}}, ...]'
        )
    if len(given) > MAX_ENTITIES:
        raise _too_many(len(given), field)
    return given


def _too_many(n_rows: int, field: str) -> Refusal:
    return Refusal(
        f"{n_rows} {field} were sent",
        name=field,
        expected=f"at most {MAX_ENTITIES}",
        hint="Send them in parts.",
    )


def _merged(service: ServedService, asked: Asked) -> Sequence[Mapping[str, Any]]:
    for name in dict.fromkeys(name for row in (*asked.entities, *(asked.request or ())) for name in row):
        _refuse_unknown(service, (name,))
    if asked.request is None:
        return asked.entities
    if len(asked.request) != len(asked.entities):
        raise Refusal(
            f"{len(asked.entities)} entities and {len(asked.request)} request rows were sent",
            name="request",
            expected="one request row an entity",
        )
    for i, (entity, request) in enumerate(zip(asked.entities, asked.request, strict=True)):
        for name in entity.keys() & request.keys():
            if entity[name] != request[name]:
                raise Refusal(
                    f'row {i}: "{name}" has one value in entities and another in request', name=name
                )
    return [{**entity, **request} for entity, request in zip(asked.entities, asked.request, strict=True)]


def _refuse_unknown(service: ServedService, names: Any) -> None:
    for name in names:
        if name not in service.columns:
            kind = "entity column or request field"
            raise unknown(
                f'service "{service.name}" has no {kind} "{name}"', name, service.columns, status=422
            )


def _missing(service: ServedService, name: str, at: int | None, row: Mapping[str, Any]) -> Refusal:
    kind = "entity column" if name in service.keys else "request field"
    where = "" if at is None else f"row {at}: "
    return Refusal(
        f'{where}{kind} "{name}" is missing',
        name=name,
        expected=f"{service.columns[name]}; null where it is not known",
        hint=f"Given: {', '.join(sorted(row)) or 'nothing'}.",
        object=f'service "{service.name}"',
    )


def mistyped(name: str, dtype: DType, values: Sequence[Any]) -> Refusal:
    """Make the refusal of the first value of a column that is not of its type.

    Args:
        name: The column.
        dtype: Its type.
        values: JSON values, one of which ``wire.read_value`` refuses.
    """
    for i, value in enumerate(values):
        try:
            read_value(value, dtype)
        except ValueError:
            return _of_another_type(name, dtype, value, f"row {i}: ")
    raise AssertionError("one of the values could not be read")


def _of_another_type(name: str, dtype: DType, value: Any, where: str) -> Refusal:
    return Refusal(f'{where}"{name}" was given {shortened(value)}', name=name, expected=str(dtype))
