"""Datasets, applies, materialisations, deployments, studies, monitors and alerts."""

from __future__ import annotations

import pytest

from mlflow_core.errors import MetadataError, UnknownNameError
from mlflow_core.metadata import MetadataStore, SpecVersion
from tests.metadata.conftest import NOON, HandClock


def spec(name: str, version: int) -> SpecVersion:
    return SpecVersion("FeatureView", name, f"sha256:{name}{version}", f'{{"name":"{name}","v":{version}}}')


def test_a_dataset_is_registered_once_by_its_content(store: MetadataStore, clock: HandClock) -> None:
    first = store.register_dataset(
        "late",
        "sha256:c",
        schema={"x": "float64"},
        rows={"train": 10, "test": 3},
        split={"train_until": "2013-10-01"},
        clock="served",
        source_snapshot={"flights": "sha256:s"},
        spec_fingerprint="sha256:f",
        artifact_digest="sha256:t",
        report={"label_unknown": 2},
    )
    clock.us += 1
    assert store.register_dataset("late", "sha256:c", schema={}, rows={}, clock="served") == first
    second = store.register_dataset("late", "sha256:c2", schema={}, rows={}, clock="known")
    assert store.get_dataset("late") == second
    for key in (first.id, "sha256:c", "sha256:t"):
        assert store.get_dataset(key) == first
    assert store.list_datasets("late") == [second, first]
    with pytest.raises(UnknownNameError, match='Did you mean "late"'):
        store.get_dataset("lat")
    run = store.create_run("late")
    assert store.use_dataset(run.id, first.id).dataset_id == first.id
    with pytest.raises(UnknownNameError, match="no dataset 99"):
        store.use_dataset(run.id, 99)


def test_every_version_of_a_spec_is_kept_and_the_set_in_force_is_known(store: MetadataStore) -> None:
    assert store.last_apply() is None
    first = store.record_apply(
        [spec("a", 1), spec("b", 1)], changes={"added": ["a", "b"]}, code={"commit": "x"}
    )
    second = store.record_apply([spec("a", 2), spec("b", 1)])
    back = store.record_apply([spec("b", 1), spec("a", 1)])
    assert [a.id for a in store.list_applies()] == [back.id, second.id, first.id]
    assert store.last_apply() == back
    assert back.fingerprint == first.fingerprint
    assert store.specs_of(second.id) == [spec("a", 2), spec("b", 1)]
    assert store.spec_versions("FeatureView", "a") == [spec("a", 1), spec("a", 2)]
    assert [e.action for e in store.audit_entries()] == ["apply"] * 3
    with pytest.raises(UnknownNameError, match="no apply 99"):
        store.specs_of(99)


def test_applying_the_same_set_again_changes_nothing(store: MetadataStore) -> None:
    first = store.record_apply([spec("a", 1), spec("b", 1)])
    assert store.record_apply([spec("b", 1), spec("a", 1)]) == first
    assert store.audit_verify().rows == 1


def test_materialisations_are_kept_and_the_last_boundary_known(store: MetadataStore) -> None:
    assert store.last_boundary("weather") is None
    done = store.record_materialisation(
        "weather",
        NOON,
        rows=3,
        started_us=NOON - 5,
        interval=(None, NOON + 7),
        nulls={"temp": 1},
        dropped_keys=2,
        missed=True,
    )
    store.record_materialisation("weather", NOON - 10, rows=3, started_us=NOON)
    store.record_materialisation("carrier", NOON + 10, rows=1, started_us=NOON)
    assert store.last_boundary("weather") == NOON
    assert store.list_materialisations("weather")[-1] == done
    assert (done.interval_start_us, done.interval_end_us, done.nulls, done.missed) == (
        None,
        NOON + 7,
        {"temp": 1},
        True,
    )
    assert len(store.list_materialisations()) == 3


def test_a_deployment_moves_only_as_it_may(store: MetadataStore, clock: HandClock) -> None:
    store.register_model_version("late", None, "sha256:a")
    deployment = store.start_deployment("late", 1, "local", "first", {"canary": 0.1})
    assert (deployment.state, deployment.model, deployment.version) == ("starting", "late", 1)
    running = store.change_deployment(deployment.id, "running", "healthy", rollout={"canary": 1.0})
    assert (running.state, running.rollout) == ("running", {"canary": 1.0})
    assert [d.id for d in store.list_deployments("late", live=True)] == [deployment.id]
    clock.us += 1
    assert store.change_deployment(deployment.id, "rolled_back", "errors").ended_us == NOON + 1
    assert store.list_deployments(live=True) == []
    with pytest.raises(MetadataError, match="is rolled_back and cannot become running"):
        store.change_deployment(deployment.id, "running", "why not")
    with pytest.raises(UnknownNameError, match="no deployment 9"):
        store.change_deployment(9, "running", "x")
    assert [e.action for e in store.audit_entries()] == [
        "model.register",
        "deploy.start",
        "deploy.change",
        "deploy.change",
    ]


def test_a_study_goes_on_where_it_was_and_a_trial_that_is_told_again_is_replaced(
    store: MetadataStore,
) -> None:
    study = store.create_study("s", metric="auc", direction="maximize", space={"depth": [4, 10]}, seed=7)
    assert store.create_study("s", metric="auc", direction="maximize", space={"depth": [4, 10]}) == study
    assert store.get_study("s") == study
    with pytest.raises(MetadataError, match="another metric"):
        store.create_study("s", metric="loss", direction="minimize", space={})
    times = {"started_us": 1, "ended_us": 2}
    lost = store.record_trial(study.id, 1, {"depth": 9}, "failed", **times)
    done = store.record_trial(
        study.id, 0, {"depth": 4}, "succeeded", 0.7, values={"1": 0.6, "2": 0.7}, **times
    )
    assert (done.number, done.value, done.values) == (0, 0.7, {"1": 0.6, "2": 0.7})
    again = store.record_trial(study.id, 1, {"depth": 9}, "pruned", 0.6, **times)
    assert (again.id, again.state) == (lost.id, "pruned")
    with pytest.raises(MetadataError, match="no way to end"):
        store.record_trial(study.id, 2, {}, "running", **times)
    with pytest.raises(UnknownNameError, match="no study 99"):
        store.record_trial(99, 0, {}, "failed", **times)
    with pytest.raises(MetadataError, match="no direction"):
        store.create_study("t", metric="auc", direction="up", space={})
    assert [t.state for t in store.list_trials(study.id)] == ["succeeded", "pruned"]
    with pytest.raises(UnknownNameError, match="Known: s"):
        store.get_study("sx")


def test_a_changed_monitor_forgets_its_state(store: MetadataStore) -> None:
    store.save_monitor("drift", "psi", {"below": 0.2})
    checked = store.note_check("drift", {"psi": 0.1})
    assert (checked.state, checked.checked_us) == ({"psi": 0.1}, NOON)
    assert store.save_monitor("drift", "psi", {"below": 0.2}, enabled=False).state == {"psi": 0.1}
    assert store.save_monitor("drift", "psi", {"below": 0.3}).state == {}
    with pytest.raises(UnknownNameError, match='no monitor "x"'):
        store.note_check("x", {})


def test_an_alert_is_opened_once_until_it_is_resolved(store: MetadataStore) -> None:
    alert = store.open_alert("drift/temp", "temp drifts", severity="critical", details={"psi": 0.4})
    assert store.open_alert("drift/temp", "temp drifts still") == alert
    acknowledged = store.change_alert(alert.id, "acknowledged")
    assert (acknowledged.acknowledged_by, acknowledged.acknowledged_us) == ("ada", NOON)
    assert store.change_alert(alert.id, "silenced", until_us=NOON + 9).silenced_until_us == NOON + 9
    assert store.change_alert(alert.id, "resolved").resolved_us == NOON
    with pytest.raises(MetadataError, match="is resolved and cannot become open"):
        store.change_alert(alert.id, "open")
    again = store.open_alert("drift/temp", "temp drifts again")
    assert again.id != alert.id
    assert [a.id for a in store.list_alerts("open")] == [again.id]
    with pytest.raises(UnknownNameError, match="no alert 99"):
        store.change_alert(99, "resolved")
