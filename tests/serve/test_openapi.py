"""The server's own description: every route of the application, services with their columns, and answers that fit it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlflow_core.serve import app as app_module
from mlflow_core.serve.app import Application
from mlflow_core.serve.openapi import PATHS
from mlflow_core.serve.run import Served, application
from tests.serve.pushed_shop import BEARER, SOURCE, pushed_project, row
from tests.serve.shop import NOW, ROW, running

SERVICE = "shop"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Application, httpx.Client]]:
    root: Path = pushed_project(tmp_path_factory.mktemp("described"), "described_shop")
    app = application(Served(str(root), clock=NOW))
    with running(app) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        yield app, client


@pytest.fixture(scope="module")
def document(described: tuple[Application, httpx.Client]) -> dict[str, Any]:
    answer = described[1].get("/openapi.json")
    assert answer.status_code == 200
    data: dict[str, Any] = answer.json()
    return data


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from nodes(one)
    elif isinstance(value, list):
        for one in value:
            yield from nodes(one)


def problem(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> str | None:
    """What is wrong with a value by the parts of JSON schema that the document uses."""
    if "$ref" in schema:
        return problem(value, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], document)
    if "oneOf" in schema:
        fits = [one for one in schema["oneOf"] if problem(value, one, document) is None]
        return None if len(fits) == 1 else f"{len(fits)} of the alternatives fit {value!r}"
    if "const" in schema and value != schema["const"]:
        return f"{value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is none of {schema['enum']}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{value!r} is not {kinds}"
    if isinstance(value, list) and "items" in schema:
        return next((said for one in value if (said := problem(one, schema["items"], document))), None)
    if isinstance(value, dict):
        return _object_problem(value, schema, document)
    return None


def _object_problem(value: dict[str, Any], schema: dict[str, Any], document: dict[str, Any]) -> str | None:
    missing = [name for name in schema.get("required", []) if name not in value]
    if missing or not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 10**9):
        return f"{missing} are missing, or there are {len(value)}"
    known, further = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, one in value.items():
        if name not in known and further is False:
            return f"{name} is not known"
        inner = known.get(name, further)
        if isinstance(inner, dict) and (said := problem(one, inner, document)):
            return f"{name}: {said}"
    return None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None),
    }  # fmt: skip
    return kind in types and isinstance(value, types[kind])


def test_it_describes_every_route_of_the_application_and_of_its_docstring(
    described: tuple[Application, httpx.Client], document: dict[str, Any]
) -> None:
    app = described[0]
    routes = {*app._answers, *app._shown, *(route for route, _, _ in app._prefixed.values())}
    told = set(re.findall(r"``(/[^`]*)``", app_module.__doc__.split("How values")[0]))  # type: ignore[union-attr]

    assert set(document["paths"]) == routes == told == set(PATHS)
    for path, method, _ in operations(document):
        asked = path.replace("{", "").replace("}", "")
        assert described[1].request(method.upper(), asked).status_code != 405
    for path in routes:
        allowed = {method.upper() for method in document["paths"][path]}
        wrong = described[1].request("PATCH", path.replace("{", "").replace("}", ""))
        assert wrong.status_code == 405
        assert allowed <= set(wrong.headers["allow"].split(", "))


def test_its_structure_is_openapis(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    schemas = document["components"]["schemas"]
    for node in nodes(document):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/components/schemas/") in schemas
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert operation["summary"].endswith(".")
        in_path = [one for one in operation.get("parameters", []) if one["in"] == "path"]
        assert {one["name"] for one in in_path} == set(re.findall(r"{(\w+)}", path))
        assert all(one["required"] for one in in_path)
        assert ("requestBody" in operation) == (method != "get")
        for status, response in operation["responses"].items():
            assert response["description"]
            if int(status) >= 400 and path != "/readyz":
                assert response["content"]["application/json"]["schema"] == {
                    "$ref": "#/components/schemas/Error"
                }


def test_what_writes_needs_the_token(document: dict[str, Any]) -> None:
    guarded = {
        path for path, _, operation in operations(document) if operation.get("security") == [{"token": []}]
    }

    assert guarded == {"/v1/push/{source}", "/push", "/v1/entities/{entity}"}
    assert document["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    for path in guarded:
        [operation] = document["paths"][path].values()
        assert {"401", "403"} <= set(operation["responses"])


@pytest.mark.parametrize(
    ("method", "path", "asked", "body"),
    [
        ("post", "/v1/features", "/v1/features", {"service": SERVICE, "entities": [ROW, {**ROW, "user_id": 99}]}),
        ("post", "/v1/features", "/v1/features", {"service": SERVICE, "entities": [{"user_id": "x", "basket": 1}]}),
        ("post", "/get-online-features", "/get-online-features",
         {"feature_service": "tills", "entities": {"till_id": [1, None]}}),
        ("post", "/v1/push/{source}", f"/v1/push/{SOURCE}", {"rows": [row()]}),
        ("post", "/v1/push/{source}", f"/v1/push/{SOURCE}", {"df": {name: [one] for name, one in row().items()}}),
        ("post", "/push", "/push",
         {"push_source_name": SOURCE, "df": {name: [one] for name, one in row().items()}, "to": "online"}),
        ("delete", "/v1/entities/{entity}", "/v1/entities/till", {"till_id": 1}),
    ],
)  # fmt: skip
def test_requests_and_answers_fit_their_schemas(
    described: tuple[Application, httpx.Client],
    document: dict[str, Any],
    method: str,
    path: str,
    asked: str,
    body: dict[str, Any],
) -> None:
    operation = document["paths"][path][method]

    answer = described[1].request(method.upper(), asked, json=body, headers=BEARER)

    sent = operation["requestBody"]["content"]["application/json"]["schema"]
    assert problem(body, sent, document) is None
    got = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    assert problem(answer.json(), got, document) is None


def test_wrong_requests_do_not_fit(document: dict[str, Any]) -> None:
    features = document["paths"]["/v1/features"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    pushes = document["paths"]["/v1/push/{source}"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]

    for wrong in ({"service": "shpo", "entities": []}, {"service": SERVICE, "entities": [{"usr_id": 1}]}):
        assert problem(wrong, features, document)
    for wrong in ({}, {"rows": [{"till_id": 1}]}, {"rows": [row(clerk=1)]}):
        assert problem(wrong, pushes, document)
