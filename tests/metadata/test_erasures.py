"""The list of erased entities: recorded with its audit row, kept once a key, read without a store."""

from __future__ import annotations

import importlib
import json

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError, UnknownNameError
from mlflow_core.metadata import MetadataStore, check, read_erasures, upgrade
from mlflow_core.metadata.upgrade import MIGRATIONS

UA = b"\x02\x00\x00\x00\x02UA"


def test_an_erasure_is_recorded_with_an_audit_row_that_does_not_name_the_key(store, url):
    found = store.record_erasure(["carrier"], UA, 77)

    assert store.list_erasures() == [found]
    assert (found.columns, found.key, found.erased_us, found.principal) == (("carrier",), UA, 77, "ada")
    [entry] = store.audit_entries()
    assert (entry.action, entry.object) == ("features.delete", f"erasure:{found.id}")
    assert json.loads(entry.details) == {"columns": ["carrier"], "erased_us": 77}
    assert "UA" not in repr(found)
    assert read_erasures(url, project="flights") == [found]


def test_the_same_key_again_is_the_same_erasure_with_the_later_time(store, clock):
    first = store.record_erasure(["carrier"], UA, 77)
    clock.us += 5
    later, earlier = store.record_erasure(["carrier"], UA, 99), store.record_erasure(["carrier"], UA, 50)

    assert [one.id for one in (first, later, earlier)] == [first.id] * 3
    assert (later.erased_us, earlier.erased_us, earlier.recorded_us) == (99, 99, clock.us)
    assert len(store.audit_entries()) == 3
    assert store.audit_verify().ok


def test_other_columns_and_other_projects_have_erasures_of_their_own(store, url, clock):
    store.record_erasure(["carrier"], UA, 1)
    store.record_erasure(["airline"], UA, 1)
    with MetadataStore(url, clock, Principal("bob"), project="other") as other:
        assert other.list_erasures() == []
        other.record_erasure(["carrier"], UA, 2)

    assert [one.columns for one in store.list_erasures()] == [("carrier",), ("airline",)]
    assert [one.erased_us for one in read_erasures(url, project="other")] == [2]
    assert read_erasures(url, project="nobody") == []


def test_reading_makes_no_database_and_an_older_one_has_no_erasures(tmp_path):
    missing = f"sqlite:///{tmp_path}/none/metadata.db"
    assert read_erasures(missing, project="flights") == []
    assert not (tmp_path / "none").exists()

    url = f"sqlite:///{tmp_path}/old.db"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    assert check(url).state == "older"
    assert read_erasures(url, project="flights") == []

    upgrade(url)
    assert check(url).state == "current"


def test_an_older_database_that_keeps_erasures_already_tells_them(url, store, monkeypatch):
    found = store.record_erasure(["carrier"], UA, 1)
    # The package has a function of the module's name.
    later = importlib.import_module("mlflow_core.metadata.upgrade")
    known = later.revisions()
    monkeypatch.setattr(later, "revisions", lambda: (*known, "9999"))

    assert check(url).state == "older"
    assert read_erasures(url, project="flights") == [found]


def test_a_newer_database_is_refused_because_it_may_hide_what_this_code_would_show(url, store, raw):
    store.record_erasure(["carrier"], UA, 1)
    raw("UPDATE mlcore_version SET version_num = '9999'")

    with pytest.raises(MetadataError, match="newer than this code"):
        read_erasures(url, project="flights")


def test_a_removed_dataset_keeps_its_record_and_says_why(store, clock):
    made = store.register_dataset("late", "sha256:1", schema={}, rows={"train": 1}, clock="served")
    run = store.create_run("late", dataset_id=made.id)

    removed = store.remove_dataset(made.id, "erasure 1 of carrier")

    assert store.get_dataset(made.id) == removed == store.list_datasets()[0]
    assert (removed.removed_us, removed.removed_why) == (clock.us, "erasure 1 of carrier")
    assert store.get_run(run.id).dataset_id == made.id
    assert store.audit_entries()[-1].action == "dataset.remove"
    again = store.register_dataset("late", "sha256:1", schema={}, rows={"train": 1}, clock="served")
    assert (again.id, again.removed_us, again.removed_why) == (made.id, None, None)
    with pytest.raises(UnknownNameError, match="no dataset 99"):
        store.remove_dataset(99, "x")
