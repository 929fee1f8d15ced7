"""The parts that the OpenAPI document is made of: JSON schemas of columns, rows, answers and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow_core.serve.request import MAX_ENTITIES
from mlflow_core.spec import DType

__all__ = ["Json", "list_schema", "ref", "row_schema", "rows_schema", "schemas", "type_schema"]

Json = dict[str, Any]


def schemas() -> Json:
    """Return the schemas that every document has, by name."""
    text, nothing, status = {"type": "string"}, {"type": "null"}, ref("Status")
    columns = {"type": "object", "additionalProperties": list_schema({})}
    features = {
        "features": columns,
        "statuses": {"type": "object", "additionalProperties": {"oneOf": [status, list_schema(status)]}},
        "event_timestamps": columns,
        "types": {"type": "object", "additionalProperties": text},
    }
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    number = {"type": "number"}
    model = _object(
        ["name", "version"], name=text, version={"type": "integer"}, alias={"oneOf": [text, nothing]}
    )
    return {
        "Status": {"enum": ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]},
        "Features": _object(["features", "statuses"], **features),
        "FeastFeatures": _object(
            ["metadata", "results"], metadata={"type": "object"}, results=list_schema({"type": "object"})
        ),
        "Predictions": _object(
            ["predictions", "model"],
            predictions={"oneOf": [list_schema(number), list_schema(list_schema(number))]},
            outputs=list_schema(text),
            model=model,
            **features,
        ),
        "Pushed": _object(
            ["rows", "written", "views"], rows={"type": "integer"}, written={"type": "integer"}, views=counts
        ),
        "Erased": _object(
            ["erasure", "columns", "erased_until", "online", "layouts", "datasets", "outputs"],
            erasure={"type": "integer"},
            columns=list_schema(text),
            erased_until={"type": "string", "format": "date-time"},
            online=counts,
            layouts={"type": "integer"},
            datasets=list_schema({"type": "integer"}),
            outputs={"type": "integer"},
        ),
        "Services": _object(["services"], services=list_schema({"type": "object"})),
        "Ready": _object(["status"], status={"enum": ["ready", "degraded", "unready"]}),
        "Error": _object(
            ["error", "name", "nearest", "hint"],
            error=text,
            name={"oneOf": [text, nothing]},
            nearest=list_schema(text),
            hint={"oneOf": [text, nothing]},
            degraded={
                "type": "string",
                "description": "The part of the service that is not there, e.g. store.",
            },
        ),
    }


def row_schema(columns: Mapping[str, DType], *, required: list[str]) -> Json:
    """Return the schema of one row: columns and their types; others are refused."""
    properties = {name: type_schema(dtype) for name, dtype in columns.items()}
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


def rows_schema(row: Json) -> Json:
    """Return the schema of as many rows as a request may have."""
    return {"type": "array", "maxItems": MAX_ENTITIES, "items": row}


def type_schema(dtype: DType) -> Json:
    """Return the schema of a JSON value of a type; null where it is not known."""
    if dtype.item is not dtype:
        return {"type": ["array", "null"], "items": type_schema(dtype.item)}
    return _TYPES[dtype]


def list_schema(items: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def ref(name: str) -> Json:
    """Return a reference to one of ``schemas``."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "required": required, "properties": properties}


_TYPES: dict[DType, Json] = {
    DType.BOOL: {"type": ["boolean", "null"]},
    DType.INT64: {"type": ["integer", "string", "null"], "format": "int64"},
    DType.INT32: {"type": ["integer", "string", "null"], "format": "int32"},
    DType.FLOAT64: {"type": ["number", "string", "null"], "format": "double"},
    DType.FLOAT32: {"type": ["number", "string", "null"], "format": "float"},
    DType.STRING: {"type": ["string", "null"]},
    DType.BYTES: {"type": ["string", "null"], "contentEncoding": "base64"},
    DType.TIMESTAMP: {"type": ["string", "integer", "null"], "format": "date-time"},
    DType.UUID: {"type": ["string", "null"], "format": "uuid"},
    DType.MAP: {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}},
}
