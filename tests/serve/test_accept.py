"""Who gets Arrow: callers that name it and do not like JSON better."""

from __future__ import annotations

import httpx
import pytest

from mlflow_core.serve.compact import ARROW_STREAM, takes_arrow
from tests.serve.shop import ROW

A = ARROW_STREAM.decode()


@pytest.mark.parametrize(
    ("accept", "arrow"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        (A, True),
        (A.upper(), True),
        (f"{A}; q=0.5", True),
        (f"{A};q=0", False),
        (f"{A};q=0.0, */*", False),
        (f"{A}, */*", True),
        (f"{A};q=0.5, */*", False),
        (f"{A};q=0.5, */*;q=0.1", True),
        (f"application/json;q=0.2, {A};q=0.5, */*", True),
        (f"application/json, {A};q=0.9", False),
        (f"{A};q=much", False),
        (f"{A}-of-another-kind", False),
        (f"x{A}", False),
        (f'text/plain;note="{A}"', False),
    ],
)
def test_the_media_type_is_read_with_its_weight(accept: str, arrow: bool) -> None:
    assert takes_arrow(accept.encode()) is arrow


def test_the_route_answers_in_what_is_liked_better(http: httpx.Client) -> None:
    body = {"service": "shop", "entities": [ROW]}

    def kind(accept: str) -> str:
        return http.post("/v1/features", json=body, headers={"accept": accept}).headers["content-type"]

    assert kind(f"{A}, application/json;q=0.5") == A
    assert kind(f"{A};q=0, application/json") == "application/json"
