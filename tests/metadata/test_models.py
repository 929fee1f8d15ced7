"""Models: versions, aliases with history and audit in one transaction, and what a reference means."""

from __future__ import annotations

import math

import pytest

from mlflow_core.errors import MetadataError, UnknownNameError, UsageError
from mlflow_core.metadata import MetadataStore
from tests.metadata.conftest import NOON, refusing


def three_versions(store: MetadataStore) -> None:
    for n in range(3):
        run = store.create_run("late")
        store.register_model_version(
            "late", run.id, f"sha256:{n}", {"auc": 0.7 + n / 100}, {"service": "delay"}
        )


def test_versions_are_numbered_and_carry_what_they_are(store: MetadataStore) -> None:
    three_versions(store)
    versions = store.list_versions("late")
    assert [v.version for v in versions] == [3, 2, 1]
    assert versions[0].metrics == {"auc": 0.72}
    assert versions[0].signature == {"service": "delay"}
    assert (versions[0].title, versions[0].principal, versions[0].created_us) == ("late:3", "ada", NOON)
    assert store.list_models() == ["late"]


def test_registering_again_after_a_resume_gives_the_same_version(store: MetadataStore) -> None:
    run = store.create_run("late")
    first = store.register_model_version("late", run.id, "sha256:a", {"nan": math.nan})
    assert store.register_model_version("late", run.id, "sha256:a").version == first.version
    assert math.isnan(store.resolve_model("late").metrics["nan"])
    assert len(store.list_versions("late")) == 1


def test_a_version_reads_its_runs_dataset(store: MetadataStore) -> None:
    dataset = store.register_dataset("d", "sha256:d", schema={}, rows={}, clock="served")
    run = store.create_run("late", dataset_id=dataset.id)
    assert store.register_model_version("late", run.id, "sha256:a").dataset_id == dataset.id


def test_a_reference_means_a_number_an_alias_or_the_best_known(store: MetadataStore) -> None:
    three_versions(store)
    assert store.resolve_model("late").version == 3
    store.move_alias("late", "candidate", 2, "trained")
    assert store.resolve_model("late").version == 2
    store.move_alias("late", "champion", 1, "gate passed")
    assert store.resolve_model("late").version == 1
    assert store.resolve_model("late@candidate").version == 2
    assert store.resolve_model("late:3").version == 3
    assert store.resolve_model("late@champion").aliases == ("champion",)


def test_an_alias_move_keeps_who_when_why_and_the_evidence(store: MetadataStore) -> None:
    three_versions(store)
    store.move_alias("late", "champion", 1, "first")
    move = store.move_alias("late", "champion", 3, "better", {"gate": {"auc": [0.01, 0.02]}, "passed": True})
    assert (move.from_version, move.to_version, move.why) == (1, 3, "better")
    assert move.evidence == {"gate": {"auc": [0.01, 0.02]}, "passed": True}
    assert (move.principal, move.established, move.moved_us) == ("ada", "token", NOON)
    gone = store.move_alias("late", "champion", None, "withdrawn")
    assert (gone.from_version, gone.to_version) == (3, None)
    assert store.aliases("late") == {}
    assert [m.why for m in store.alias_history("late", "champion")] == ["first", "better", "withdrawn"]
    entry = store.audit_entries(after=move.audit_seq - 1, limit=1)[0]
    assert (entry.action, entry.object, entry.principal) == ("alias.move", "model:late@champion", "ada")
    assert '"passed":true' in entry.details
    assert store.audit_verify().ok


def test_an_alias_that_points_there_already_is_not_moved_again(store: MetadataStore) -> None:
    three_versions(store)
    first = store.move_alias("late", "champion", 1, "first")
    assert store.move_alias("late", "champion", 1, "again") == first
    assert len(store.alias_history("late")) == 1


def test_alias_evidence_and_audit_row_are_one_transaction(store: MetadataStore, url: str) -> None:
    three_versions(store)
    store.move_alias("late", "champion", 1, "first")
    before = (store.aliases("late"), store.alias_history("late"), store.audit_verify())
    # The last write of the transaction fails: nothing of the earlier ones may stay.
    for table in ("mlcore_alias_moves", "mlcore_audit"):
        with refusing(url, table, "refused here"), pytest.raises(MetadataError, match="refused here"):
            store.move_alias("late", "champion", 2, "second")
    assert (store.aliases("late"), store.alias_history("late"), store.audit_verify()) == before
    store.move_alias("late", "champion", 2, "second")
    assert store.audit_verify().ok


def test_a_version_and_its_first_alias_are_one_transaction(store: MetadataStore, url: str) -> None:
    run = store.create_run("late")
    given = {"alias": "champion", "why": "passed its gate", "evidence": {"passed": True}}
    with (
        refusing(url, "mlcore_alias_moves", "refused here"),
        pytest.raises(MetadataError, match="refused here"),
    ):
        store.register_model_version("late", run.id, "sha256:a", **given)
    assert store.list_models() == []

    version = store.register_model_version("late", run.id, "sha256:a", **given)

    assert (version.version, version.aliases) == (1, ("champion",))
    assert store.alias_history("late")[0].evidence == {"passed": True}
    assert [entry.action for entry in store.audit_entries()] == ["model.register", "alias.move"]
    with pytest.raises(UsageError, match="needs a reason"):
        store.register_model_version("late", run.id, "sha256:b", alias="champion")
    assert len(store.list_versions("late")) == 1


def test_what_is_not_there_is_named_with_what_is(store: MetadataStore) -> None:
    three_versions(store)
    store.move_alias("late", "champion", 1, "first")
    with pytest.raises(UnknownNameError, match=r'no model "lat".*Did you mean "late"'):
        store.resolve_model("lat")
    with pytest.raises(UnknownNameError, match=r'no alias "champ".*Did you mean "champion"'):
        store.resolve_model("late@champ")
    with pytest.raises(UnknownNameError, match=r"no version 9.*It has: 1, 2, 3"):
        store.resolve_model("late:9")
    with pytest.raises(UnknownNameError, match=r"no version 9"):
        store.move_alias("late", "champion", 9, "why")
    with pytest.raises(UnknownNameError, match='no alias "x"'):
        store.move_alias("late", "x", None, "why")
    with pytest.raises(UnknownNameError, match='no run "r"'):
        store.register_model_version("late", "r", "sha256:x")
    with pytest.raises(UsageError, match="name, name:version or name@alias"):
        store.resolve_model("late:new")
    with pytest.raises(UsageError, match="cannot name an alias"):
        store.move_alias("late", "3", 1, "why")
    with pytest.raises(UsageError, match="cannot name a model"):
        store.register_model_version("a@b", None, "sha256:x")
    with pytest.raises(UsageError, match="needs a reason"):
        store.move_alias("late", "champion", 2, " ")
    assert store.aliases("late") == {"champion": 1}
