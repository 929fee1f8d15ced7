"""Tokens that were made by the command, at a server: what each role may, when one is revoked, and a database that is away."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlflow_core.config import FixedClock, Principal, SystemClock
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.tokens import TokenDigest, digest_of_token
from mlflow_core.serve.app import Limits
from mlflow_core.serve.issued import IssuedTokens
from mlflow_core.serve.refusal import Refusal
from mlflow_core.serve.run import Served, application
from mlflow_core.serve.tokens import Tokens
from tests.serve.pushed_shop import BEARER, SOURCE, pushed_project, row
from tests.serve.shop import NOW, mlcore, running, until

HOLDS_S = 1.5
ROWS = {"rows": [row()]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pushed_project(tmp_path_factory.mktemp("issued"), "issued_shop")


@pytest.fixture(scope="module")
def till(root: Path) -> Iterator[httpx.Client]:
    served = Served(str(root), clock=NOW, limits=Limits(refresh_s=0.3, tokens_hold_s=HOLDS_S))
    with running(application(served)) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        yield client


def command(root: Path, *words: str) -> Any:
    said = StringIO()
    with redirect_stdout(said):
        assert mlcore(root, "--json", *words) == 0
    return json.loads(said.getvalue())


def made(root: Path, name: str, *more: str) -> tuple[int, dict[str, str]]:
    token = command(root, "tokens", "create", name, *more, "--force")
    return token["id"], {"authorization": f"Bearer {token['token']}"}


def push(till: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    return till.post(f"/v1/push/{SOURCE}", json=ROWS, headers=headers)


def erase(till: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    return till.request("DELETE", "/v1/entities/till", json={"till_id": 77}, headers=headers)


@pytest.mark.parametrize(
    ("role", "pushes", "erases"), [("read", 403, 403), ("write", 200, 403), ("admin", 200, 200)]
)
def test_a_token_may_what_its_role_says_at_once_after_it_was_made(
    root: Path, till: httpx.Client, role: str, pushes: int, erases: int
) -> None:
    _, headers = made(root, f"{role}@example.org", "--role", role)

    assert push(till, headers).status_code == pushes
    refused = erase(till, headers)
    assert refused.status_code == erases
    if erases == 403:
        assert f'"{role}@example.org" with the role "{role}"' in refused.json()["error"]
        assert 'the role "admin"' in refused.json()["hint"]


def test_a_token_may_only_read_unless_more_was_said(root: Path, till: httpx.Client) -> None:
    _, headers = made(root, "nobody@example.org")

    assert push(till, headers).status_code == 403
    assert command(root, "tokens", "list")[-1]["role"] == "read"


def test_what_was_erased_with_one_is_recorded_with_its_name_as_established_by_a_token(
    root: Path, till: httpx.Client
) -> None:
    _, headers = made(root, "auditor@example.org", "--role", "admin")

    assert erase(till, headers).status_code == 200

    rows = command(root, "audit", "log", "--principal", "auditor@example.org")
    assert {one["established"] for one in rows} == {"token"}


def test_a_revoked_token_is_refused_within_the_time_that_is_stated(root: Path, till: httpx.Client) -> None:
    number, headers = made(root, "leaver@example.org", "--role", "write")
    assert push(till, headers).status_code == 200

    command(root, "tokens", "revoke", str(number), "--force")

    until(lambda: push(till, headers).status_code == 401, seconds=HOLDS_S + 5)


def test_with_the_database_away_what_was_read_counts_for_a_while_and_then_nobody_gets_in_by_it(
    root: Path, till: httpx.Client
) -> None:
    _, headers = made(root, "worker@example.org", "--role", "admin")
    assert push(till, headers).status_code == 200
    with sqlite3.connect(root / ".mlcore" / "metadata.db", timeout=30) as database:
        database.execute("ALTER TABLE mlcore_tokens RENAME TO gone")
    try:
        until(lambda: push(till, headers).status_code == 503, seconds=HOLDS_S + 5)

        refused = push(till, headers)
        assert refused.status_code == 503
        assert "cannot be checked" in refused.json()["error"]
        assert (refused.json()["degraded"], refused.headers["retry-after"]) == ("metadata", "1")
        assert push(till, {"authorization": "Bearer none-that-anybody-made"}).status_code == 503
        assert push(till, {}).status_code == 401
        assert push(till, BEARER).status_code == 200  # one of the settings
    finally:
        with sqlite3.connect(root / ".mlcore" / "metadata.db", timeout=30) as database:
            database.execute("ALTER TABLE gone RENAME TO mlcore_tokens")
    until(lambda: push(till, headers).status_code == 200, seconds=10)


def test_a_server_whose_settings_name_nobody_lets_in_who_has_a_token_of_the_database(tmp_path: Path) -> None:
    root = pushed_project(tmp_path, "bare_shop", tokens=False)
    with running(application(Served(str(root), clock=NOW))) as url, httpx.Client(base_url=url) as client:
        refused = push(client, BEARER)
        assert refused.status_code == 403
        assert "mlcore tokens create" in refused.json()["hint"]

        _, headers = made(root, "first@example.org", "--role", "write")

        assert push(client, headers).status_code == 200
        assert push(client, BEARER).status_code == 401


class Seconds:
    """Seconds that pass as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetadataStore]:
    with MetadataStore(f"sqlite:///{tmp_path}/m.db", SystemClock(), Principal("test")) as opened:
        yield opened


def test_a_token_that_is_known_costs_no_reading(store: MetadataStore) -> None:
    _, token = store.create_token("ops", role="write")
    readings: list[int] = []

    def read() -> list[TokenDigest]:
        readings.append(1)
        return store.tokens_in_force()

    issued = IssuedTokens(read, SystemClock(), elapsed=Seconds())
    issued.refresh()
    tokens = Tokens({}, issued)

    async def often() -> set[str]:
        header = f"Bearer {token}".encode()
        return {str(await tokens.established(header, "write")) for _ in range(1000)}

    assert (asyncio.run(often()), len(readings)) == ({"ops"}, 1)
    tokens.close()


def test_many_wrong_tokens_at_once_are_one_reading(store: MetadataStore) -> None:
    store.create_token("ops", role="write")
    readings: list[int] = []

    def read() -> list[TokenDigest]:
        readings.append(1)
        return store.tokens_in_force()

    issued = IssuedTokens(read, SystemClock())
    issued.refresh()
    tokens = Tokens({}, issued)

    async def all_at_once() -> list[object]:
        asked = (tokens.established(f"Bearer wrong-{n}".encode(), "write") for n in range(500))
        return await asyncio.gather(*asked, return_exceptions=True)

    refused = asyncio.run(all_at_once())

    assert {one.status for one in refused if isinstance(one, Refusal)} == {401}
    assert len(refused) == 500
    assert len(readings) <= 2  # the first, and one for all of them
    tokens.close()


def test_what_was_read_counts_from_before_the_reading_and_no_longer_than_it_may(store: MetadataStore) -> None:
    _, token = store.create_token("ops")
    seconds, header = Seconds(), f"Bearer {token}".encode()

    def slowly() -> list[TokenDigest]:
        found = store.tokens_in_force()
        seconds.now += 4.0
        return found

    issued = IssuedTokens(slowly, SystemClock(), holds_s=10.0, elapsed=seconds)
    issued.refresh()
    tokens = Tokens({}, issued)

    seconds.now += 6.0
    assert tokens.principal(header, "read") == Principal("ops", "token")
    seconds.now += 0.1
    with pytest.raises(Refusal, match="cannot be checked") as error:
        tokens.principal(header, "read")
    assert error.value.status == 503
    tokens.close()


def test_a_token_that_expires_between_two_readings_is_refused(store: MetadataStore) -> None:
    known = TokenDigest(digest_of_token("a token of sixteen"), "ops", "admin", 1_000)
    for now_us, let_in in ((999, True), (1_000, False)):
        issued = IssuedTokens(lambda: [known], FixedClock(now_us))
        issued.refresh()
        assert (issued.find(known.digest) is not None) is let_in
        issued.close()


def test_a_role_that_this_version_does_not_know_may_nothing() -> None:
    later = TokenDigest(digest_of_token("a token of sixteen"), "ops", "owner", None)  # type: ignore[arg-type]
    issued = IssuedTokens(lambda: [later], SystemClock())
    issued.refresh()
    tokens = Tokens({}, issued)

    with pytest.raises(Refusal) as error:
        tokens.principal(b"Bearer a token of sixteen", "write")

    assert error.value.status == 403
    tokens.close()


def test_a_reading_that_fails_leaves_what_was_read_before(store: MetadataStore) -> None:
    _, token = store.create_token("ops")
    answers = [store.tokens_in_force()]

    def read() -> list[TokenDigest]:
        if not answers:
            raise MetadataError("the database is away")
        return answers.pop()

    issued = IssuedTokens(read, SystemClock())
    issued.refresh()
    with pytest.raises(MetadataError):
        issued.refresh()

    assert issued.counts
    assert issued.find(digest_of_token(token)) is not None
    issued.close()
