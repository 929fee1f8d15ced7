"""Who may write: with which token, what others are told, and that no token is ever logged or shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlflow_core.config import load_settings
from mlflow_core.errors import ConfigError
from mlflow_core.serve.app import Limits
from mlflow_core.serve.run import Served, application
from tests.serve.pushed_shop import BEARER, OTHER, SOURCE, TOKEN, pushed_project, row
from tests.serve.shop import NOW, mlcore, running

WRITES = [
    ("POST", f"/v1/push/{SOURCE}", {"rows": [row()]}),
    ("POST", "/push", {"push_source_name": SOURCE, "df": {name: [one] for name, one in row().items()}}),
    ("DELETE", "/v1/entities/till", {"till_id": 1}),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pushed_project(tmp_path_factory.mktemp("guarded"), "guarded_shop")


@pytest.fixture(scope="module")
def till(guarded: Path) -> Iterator[httpx.Client]:
    served = Served(str(guarded), clock=NOW, verbosity=1, limits=Limits(body_bytes=100_000))
    with running(application(served)) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        yield client


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer x {TOKEN}",
    ],
)
def test_without_the_right_token_nothing_is_written(
    till: httpx.Client, method: str, path: str, body: object, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}

    refused = till.request(method, path, json=body, headers=headers)

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert set(refused.json()) == {"error", "name", "nearest", "hint"}


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_each_caller_with_a_token_may_write(till: httpx.Client, method: str, path: str, body: object) -> None:
    for authorization in (f"Bearer {TOKEN}", f"bearer {OTHER}"):
        answer = till.request(method, path, json=body, headers={"authorization": authorization})
        assert answer.status_code == 200, answer.text


def test_a_caller_without_a_token_is_refused_before_its_body_is_read(till: httpx.Client) -> None:
    assert till.post(f"/v1/push/{SOURCE}", content=b"x" * 200_000).status_code == 401
    assert till.post(f"/v1/push/{SOURCE}", content=b"x" * 200_000, headers=BEARER).status_code == 413


def test_the_log_names_the_caller_and_never_the_token(
    till: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("mlflow_core"), "propagate", True)
    caplog.set_level(logging.DEBUG, "mlflow_core")

    till.post(f"/v1/push/{SOURCE}", json={"rows": [row()]}, headers=BEARER)
    till.post(
        f"/v1/push/{SOURCE}", json={"rows": [row()]}, headers={"authorization": "Bearer wrong-wrong-wrong"}
    )

    pushed = [record for record in caplog.records if record.message == "rows were pushed"]
    assert {record.__dict__["principal"] for record in pushed} == {"ops"}
    told = caplog.text + str([record.__dict__ for record in caplog.records])
    assert TOKEN not in told
    assert "wrong-wrong-wrong" not in told


def test_a_server_without_tokens_lets_nobody_write_and_says_how_to_change_that(tmp_path: Path) -> None:
    root = pushed_project(tmp_path, "open_shop", tokens=False)

    with running(application(Served(str(root), clock=NOW))) as url:
        for method, path, body in WRITES:
            refused = httpx.request(method, f"{url}{path}", json=body, headers=BEARER, timeout=30.0)
            assert refused.status_code == 403
            assert "[serve.tokens]" in refused.json()["hint"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (f'ops = "{TOKEN}"', "write a reference to the token, not the token"),
        ('ops = "${file:short}"', "at least 16"),
        ('ops = "${file:token}"\nme = "${file:token}"', "me and ops have one token"),
        ('"two words" = "${file:token}"', '"two words" is no name'),
    ],
)
def test_a_token_that_cannot_be_one_is_an_error_that_does_not_show_it(
    tmp_path: Path, lines: str, told: str
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "short").write_text("too-short")
    (tmp_path / "mlcore.toml").write_text(f"[serve.tokens]\n{lines}\n")

    with pytest.raises(ConfigError) as error:
        load_settings(tmp_path, environ={})

    assert told in str(error.value)
    assert TOKEN not in str(error.value)
    assert "too-short" not in str(error.value)


def test_the_settings_show_references_and_the_log_knows_what_to_hide(
    guarded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {TOKEN, OTHER} <= set(load_settings(guarded, environ={}).secret_values())
    capsys.readouterr()

    assert mlcore(guarded, "config", "show") == 0

    shown = capsys.readouterr().out
    assert "${file:token}" in shown
    assert TOKEN not in shown
