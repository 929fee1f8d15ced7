"""Tokens: told once, kept as digests, for one namespace, changed only by who is known by one."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError, UnknownNameError, UsageError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.tokens import digest_of_token
from tests.metadata.conftest import NOON, HandClock

REFUSED = "the token is none that is in force here"


def everything_written(url: str) -> str:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = [
            *connection.execute(text("SELECT * FROM mlcore_tokens")),
            *connection.execute(text("SELECT * FROM mlcore_audit")),
        ]
    engine.dispose()
    return repr(rows)


def test_a_token_establishes_its_principal_and_is_itself_nowhere(store: MetadataStore, url: str) -> None:
    made, token = store.create_token("ops@example.org", note="the pipeline of the night")
    assert (made.principal, made.created_by, made.established) == ("ops@example.org", "ada", "token")
    assert store.principal_of_token(token) == Principal("ops@example.org", "token")
    assert store.principal_of_token(f" {token}\n").name == "ops@example.org"
    written = everything_written(url)
    assert "the pipeline of the night" in written
    assert token not in written
    assert token.removeprefix("mlc_") not in written


def test_no_two_tokens_are_the_same_and_a_principal_may_have_several(store: MetadataStore) -> None:
    made = [store.create_token("ops") for _ in range(5)]
    assert len({token for _, token in made}) == 5
    assert [one.id for one in store.list_tokens()] == [record.id for record, _ in made]
    assert {store.principal_of_token(token).name for _, token in made} == {"ops"}


def test_a_revoked_an_expired_and_an_unknown_token_are_refused_alike(
    store: MetadataStore, clock: HandClock
) -> None:
    revoked, first = store.create_token("ops")
    _, second = store.create_token("ops", expires_us=NOON + 10)
    gone = store.revoke_token(revoked.id, why="lost")
    assert (gone.revoked_us, gone.revoked_by) == (NOON, "ada")
    assert store.revoke_token(revoked.id) == gone
    assert store.principal_of_token(second).name == "ops"
    clock.us += 10
    # The last one is what an environment variable that is not UTF-8 becomes.
    for token in (first, second, "mlc_nothing", "", "mlc_\udcff"):
        with pytest.raises(MetadataError, match=REFUSED):
            store.principal_of_token(token)
    assert [row.action for row in store.audit_entries()] == ["token.create", "token.create", "token.revoke"]


def test_what_is_no_name_or_lies_in_the_past_makes_no_token(store: MetadataStore) -> None:
    with pytest.raises(UsageError, match="names no principal"):
        store.create_token("two words")
    with pytest.raises(UsageError, match="has passed"):
        store.create_token("ops", expires_us=NOON)
    with pytest.raises(UnknownNameError, match=r"no token 7.*There are none"):
        store.revoke_token(7)
    assert store.list_tokens() == []


def test_after_the_first_token_a_claimed_name_makes_and_revokes_none(url: str, clock: HandClock) -> None:
    with MetadataStore(url, clock, Principal("root", "os")) as claimed:
        first, token = claimed.create_token("ada")
        with pytest.raises(MetadataError, match=r"root is not known by a token.*MLCORE_TOKEN"):
            claimed.create_token("mallory")
        with pytest.raises(MetadataError, match="not known by a token"):
            claimed.revoke_token(first.id)
        with MetadataStore(url, clock, claimed.principal_of_token(token)) as known:
            second, _ = known.create_token("bob")
        assert (second.created_by, second.established) == ("ada", "token")
        forced, _ = claimed.create_token("ada", force=True)
        assert '"forced":true' in claimed.audit_entries()[-1].details
        for one in (first, second, forced):
            claimed.revoke_token(one.id, force=True)
        claimed.create_token("ada")  # none is in force any more


def test_a_token_of_one_namespace_is_nothing_in_another(url: str, clock: HandClock) -> None:
    def of(namespace: str, project: str) -> MetadataStore:
        return MetadataStore(url, clock, Principal("ada"), namespace=namespace, project=project)

    with of("red", "a") as red, of("red", "b") as same_team, of("blue", "a") as blue:
        made, token = red.create_token("ops")
        assert same_team.principal_of_token(token).name == "ops"
        assert [one.id for one in same_team.list_tokens()] == [made.id]
        assert blue.list_tokens() == []
        with pytest.raises(MetadataError, match=REFUSED):
            blue.principal_of_token(token)
        with pytest.raises(UnknownNameError, match="no token"):
            blue.revoke_token(made.id)
        blue.create_token("ops")  # its own first one


def test_a_token_has_a_role_and_a_server_is_told_of_those_in_force(store: MetadataStore) -> None:
    reading, _ = store.create_token("ana")
    pushing, token = store.create_token("bob", role="write", expires_us=NOON + 10, force=True)
    gone, _ = store.create_token("eve", role="admin", force=True)
    store.revoke_token(gone.id, force=True)

    assert (reading.role, pushing.role) == ("read", "write")
    told = store.tokens_in_force()
    assert [(one.principal, one.role, one.expires_us) for one in told] == [
        ("ana", "read", None),
        ("bob", "write", NOON + 10),
    ]
    assert told[1].digest == digest_of_token(token)
    assert '"role":"write"' in str(store.audit_entries()[1].details)
    with pytest.raises(UsageError, match='"writer" is no role'):
        store.create_token("ana", role="writer", force=True)  # type: ignore[arg-type]
