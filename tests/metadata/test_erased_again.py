"""A backup knows nobody who was erased after it was made; what takes its place of a database must."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.config import Principal
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.backup import backup, restore
from mlflow_core.metadata.erased_again import erase_again, erasures_of_all
from mlflow_core.metadata.health import examine
from tests.metadata.conftest import HandClock
from tests.metadata.test_migrations import at_revision

OPS = Principal("ops", "token")


def test_who_was_erased_after_a_backup_stays_erased_when_it_is_restored(
    store: MetadataStore, url: str, clock: HandClock, tmp_path: Path
) -> None:
    store.record_erasure(["customer"], b"before", 5)
    store.record_erasure(["customer"], b"before, and later again", 5)
    file = backup(url, tmp_path / "kept").file
    store.record_erasure(["customer"], b"after", 7)
    store.record_erasure(["customer"], b"before, and later again", 9)
    with MetadataStore(url, clock, Principal("bob"), project="trains", namespace="rail") as other:
        other.record_erasure(["line", "stop"], b"after", 3)
    store.close()

    known = erasures_of_all(url)
    restore(url, file, overwrite=True)
    assert len(erasures_of_all(url)) == 2
    clock.us += 1
    again = erase_again(url, known, clock, OPS)

    assert [(one.project, one.key, one.erased_us) for one in again] == [
        ("flights", b"before, and later again", 9),
        ("flights", b"after", 7),
        ("trains", b"after", 3),
    ]
    assert {one.whom: one.erased_us for one in erasures_of_all(url)} == {
        one.whom: one.erased_us for one in known
    }
    assert examine(url).ok
    with MetadataStore(url, clock, OPS, project="flights") as restored:
        entries = restored.audit_entries(action="features.delete", newest_first=True)
        assert [one.principal for one in entries] == ["ops", "ops", "ada", "ada"]
        assert "after" not in "".join(one.details for one in entries)
    assert erase_again(url, known, clock, OPS) == ()


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_backup_of_an_earlier_version_is_brought_to_this_one_to_know_them(
    store: MetadataStore, url: str, empty_url: str, clock: HandClock, tmp_path: Path, revision: str
) -> None:
    at_revision(empty_url, revision)
    file = backup(empty_url, tmp_path / "kept").file
    store.record_erasure(["customer"], b"gone", 5)
    store.close()

    known = erasures_of_all(url)
    assert restore(url, file, overwrite=True).state == "older"
    assert erasures_of_all(url) == ()
    assert erase_again(url, known, clock, OPS) == known

    assert erasures_of_all(url) == known
    assert examine(url).ok


def test_a_database_that_is_not_there_knows_nobody_and_is_not_made(empty_url: str, kind: str) -> None:
    assert erasures_of_all(empty_url) == ()
    if kind == "sqlite":
        assert not Path(empty_url.removeprefix("sqlite:///")).exists()


def test_keys_are_not_shown(store: MetadataStore, url: str) -> None:
    store.record_erasure(["customer"], b"secret", 5)

    assert "secret" not in repr(erasures_of_all(url))
