"""The server described as OpenAPI 3.1, from what it serves now: each feature service with its own columns and types.

The one place where routes, parameters, bodies, statuses and the scheme of tokens are written down for machines; people
read docs/http.md. Which routes there are, ``app`` decides, and a test compares the two.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from mlflow_core.errors import MlcoreError
from mlflow_core.serve.catalogue import Catalogue
from mlflow_core.serve.compact import ARROW_STREAM
from mlflow_core.serve.openapi_schemas import (
    Json,
    list_schema,
    ref,
    row_schema,
    rows_schema,
    schemas,
    type_schema,
)
from mlflow_core.serve.push_targets import push_sources, push_targets
from mlflow_core.serve.served import ServedService
from mlflow_core.spec import DType

__all__ = ["PATHS", "openapi"]

_ARROW = ARROW_STREAM.decode()
_ERRORS = {
    "400": "The body is no JSON, or no whole Arrow stream.",
    "401": "No token, or one that this server does not know.",
    "403": "Nobody may write through this server, or nobody with this token.",
    "404": "No such service, feature, model, push source or entity.",
    "408": "The body did not arrive in time.",
    "409": "The features that the model was trained on have changed.",
    "413": "The body is too long.",
    "415": "The body is of a type that is not read here.",
    "422": "Anything else that is wrong with the request; name says what, nearest what was perhaps meant.",
    "500": "A fault of the server; its log holds the cause.",
    "501": "The online store is one that Feast writes, and this server only reads it.",
    "503": "Too much at once, or a part of the service is not there: degraded names it.",
    "504": "No answer in time.",
}
_READS = ("400", "404", "408", "413", "422", "500", "503", "504")
_WRITES = ("400", "401", "403", "404", "408", "413", "415", "422", "500", "501", "503", "504")


def openapi(catalogue: Catalogue) -> Json:
    """Return the document.

    Args:
        catalogue: What is served; its services and push sources have schemas of their own.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Feature server",
            "version": version("mlflow-core"),
            "description": "Features, predictions and pushes of one project.",
            "x-registry-version": catalogue.digest[:12],
        },
        "paths": {path: make(catalogue) for path, make in _PATHS.items()},
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _features(catalogue: Catalogue) -> Json:
    services = catalogue.services
    return _post(
        "features",
        "The features of a service for up to ten thousand entities.",
        _body(
            {"oneOf": [_asking(one) for _, one in sorted(services.items())]}
            if services
            else {"type": "object"}
        ),
        {"application/json": ref("Features"), _ARROW: {"type": "string", "format": "binary"}},
        _READS,
        parameters=[_accept()],
    )


def _feast_features(catalogue: Catalogue) -> Json:
    flags = ("full_feature_names", "include_feature_view_version_metadata")
    body = {
        "type": "object",
        "required": ["entities"],
        "properties": {
            "feature_service": _one_of(catalogue.services),
            "features": list_schema({"type": "string", "pattern": "^[^:]+:[^:]+$"}),
            "entities": {"type": "object", "additionalProperties": list_schema({})},
            **{flag: {"type": "boolean", "default": False} for flag in flags},
        },
        "anyOf": [{"required": ["feature_service"]}, {"required": ["features"]}],
    }
    text = "Features as Feast's own server answers."
    return _post("feast_features", text, _body(body), {"application/json": ref("FeastFeatures")}, _READS)


def _predict(catalogue: Catalogue) -> Json:
    del catalogue
    flags = ("features", "event_timestamps", "types")
    body = {
        "type": "object",
        "required": ["entities"],
        "additionalProperties": False,
        "properties": {
            "entities": rows_schema({"type": "object"}),
            "request": rows_schema({"type": "object"}),
            **{flag: {"type": "boolean", "default": False} for flag in flags},
        },
    }
    return _post(
        "predict",
        "A model's predictions.",
        _body(body),
        {"application/json": ref("Predictions")},
        (*_READS, "409"),
        parameters=[_in_path("model", {"type": "string"}, "name, name@alias or name:version")],
    )


def _push(catalogue: Catalogue) -> Json:
    rows = [one for source in push_sources(catalogue) if (one := _pushing(catalogue, source)) is not None]
    body = _body({"oneOf": rows} if rows else {"type": "object"})
    body["content"][_ARROW] = {"schema": {"type": "string", "format": "binary"}}
    key = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}}
    key["description"] = "Accepted and not needed: a row's version makes sending it again harmless."
    return _post(
        "push",
        "Write rows of latest-value views to the online store. May be sent again.",
        body,
        {"application/json": ref("Pushed")},
        _WRITES,
        parameters=[
            _in_path("source", _one_of(push_sources(catalogue)), "A push source of the registry."),
            key,
        ],
        writes=True,
    )


def _feast_push(catalogue: Catalogue) -> Json:
    body = {
        "type": "object",
        "required": ["push_source_name", "df"],
        "properties": {
            "push_source_name": _one_of(push_sources(catalogue)),
            "df": {"type": "object", "additionalProperties": list_schema({})},
            "to": {"const": "online"},
        },
    }
    text = "The same as Feast's clients send it; columns that no view has are left out."
    answer = {"application/json": ref("Pushed")}
    return _post("feast_push", text, _body(body), answer, _WRITES, writes=True)


def _erase(catalogue: Catalogue) -> Json:
    del catalogue
    operation = _post(
        "erase",
        "Erase an entity: online values, cached layouts, datasets, what steps made of them, and its events. May be sent again.",
        _body({"type": "object", "minProperties": 1, "description": "The key columns with their values."}),
        {"application/json": ref("Erased")},
        _WRITES,
        parameters=[
            _in_path("entity", {"type": "string"}, "An entity, or key columns with commas between them.")
        ],
        writes=True,
    )
    return {"delete": operation["post"]}


def _services(catalogue: Catalogue) -> Json:
    del catalogue
    return _get("services", "What can be asked for.", {"application/json": ref("Services")})


def _livez(catalogue: Catalogue) -> Json:
    del catalogue
    return _get("livez", "The process runs.", {"application/json": {"type": "object"}})


def _health(catalogue: Catalogue) -> Json:
    del catalogue
    return _get(
        "health", "The process runs; where Feast's server says so.", {"application/json": {"type": "object"}}
    )


def _readyz(catalogue: Catalogue) -> Json:
    del catalogue
    found = _get(
        "readyz", "Whether requests can be answered, and what is wrong.", {"application/json": ref("Ready")}
    )
    found["get"]["responses"]["503"] = _answer("It cannot answer.", {"application/json": ref("Ready")})
    return found


def _metrics(catalogue: Catalogue) -> Json:
    del catalogue
    return _get("metrics", "Prometheus' text format.", {"text/plain": {"type": "string"}})


def _openapi(catalogue: Catalogue) -> Json:
    del catalogue
    return _get("openapi", "This document.", {"application/json": {"type": "object"}})


_PATHS = {
    "/get-online-features": _feast_features,
    "/v1/features": _features,
    "/v1/predict/{model}": _predict,
    "/v1/push/{source}": _push,
    "/push": _feast_push,
    "/v1/entities/{entity}": _erase,
    "/v1/services": _services,
    "/livez": _livez,
    "/health": _health,
    "/readyz": _readyz,
    "/metrics": _metrics,
    "/openapi.json": _openapi,
}
PATHS = tuple(_PATHS)
"""Every route of the server."""


def _asking(service: ServedService) -> Json:
    keys, fields = (
        service.keys,
        {name: one for name, one in service.request.items() if name not in service.keys},
    )
    flags = ("full_feature_names", "event_timestamps", "types")
    return {
        "title": service.name,
        "description": service.description,
        "type": "object",
        "required": ["service", "entities"],
        "additionalProperties": False,
        "properties": {
            "service": {"const": service.name},
            "entities": rows_schema(row_schema({**keys, **fields}, required=list(keys))),
            "request": rows_schema(row_schema(service.request, required=[])),
            **{flag: {"type": "boolean", "default": False} for flag in flags},
        },
    }


def _pushing(catalogue: Catalogue, source: str) -> Json | None:
    """Describe the rows of a push source; None where its views cannot be pushed to."""
    columns: dict[str, DType] = {}
    try:
        for target in push_targets(catalogue, source):
            pushed = {name: one for one, name in target.renamed.items()}
            columns |= {pushed.get(name, name): dtype for name, dtype in target.columns.items()}
    except MlcoreError:
        return None
    one = {"type": "object", "required": list(columns), "additionalProperties": False}
    row = {**one, "properties": {name: type_schema(dtype) for name, dtype in columns.items()}}
    df = {**one, "properties": {name: list_schema(type_schema(dtype)) for name, dtype in columns.items()}}
    return {
        "title": source,
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {"rows": list_schema(row), "df": df},
    }


def _post(
    name: str,
    text: str,
    body: Json,
    answer: Json,
    errors: tuple[str, ...],
    *,
    parameters: list[Json] | None = None,
    writes: bool = False,
) -> Json:
    responses = {"200": _answer("The answer.", answer)} | {
        status: _error(status) for status in sorted(errors)
    }
    operation: Json = {"operationId": name, "summary": text, "requestBody": body, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if writes:
        operation["security"] = [{"token": []}]
    return {"post": operation}


def _get(name: str, text: str, answer: Json) -> Json:
    return {
        "get": {"operationId": name, "summary": text, "responses": {"200": _answer("The answer.", answer)}}
    }


def _answer(text: str, content: Json) -> Json:
    return {"description": text, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


def _error(status: str) -> Json:
    return _answer(_ERRORS[status], {"application/json": ref("Error")})


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _accept() -> Json:
    schema = {"enum": ["application/json", _ARROW]}
    return {"name": "Accept", "in": "header", "required": False, "schema": schema}


def _in_path(name: str, schema: Json, text: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": text}


def _one_of(names: Any) -> Json:
    return {"type": "string", "enum": sorted(names)} if names else {"type": "string"}
