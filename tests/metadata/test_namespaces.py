"""Several projects and teams in one database: none sees, counts, moves or finds by name what is another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import UnknownNameError
from mlflow_core.metadata import MetadataStore, SpecVersion, read_erasures
from tests.metadata.conftest import NOON, HandClock

OTHERS = [("red", "weather"), ("blue", "flights"), ("blue", "weather")]


@dataclass(frozen=True)
class Written:
    """What the project ``red/flights`` holds."""

    run_id: str
    dataset_id: int
    apply_id: int
    study_id: int
    deployment_id: int
    monitor_id: int
    alert_id: int


@pytest.fixture
def red(url: str, clock: HandClock) -> Iterator[MetadataStore]:
    with MetadataStore(url, clock, Principal("ada"), namespace="red", project="flights") as opened:
        yield opened


@pytest.fixture
def written(red: MetadataStore) -> Written:
    dataset = red.register_dataset("late", "sha256:d", schema={}, rows={"train": 1}, clock="served")
    run = red.create_run("late", dataset_id=dataset.id)
    step = red.start_step(run.id, "fit", cache_key="k")
    red.finish_step(step.id, output_digest="sha256:o")
    red.log_metrics(run.id, {"auc": 0.7})
    red.log_params(run.id, {"depth": 6})
    red.log_artifact(run.id, "report.html", "/x", "sha256:x", 1)
    study = red.create_study("search", metric="auc", direction="maximize", space={}, run_id=run.id)
    red.register_model_version("late", run.id, "sha256:m", alias="champion", why="first")
    applied = red.record_apply([SpecVersion("View", "v", "sha256:v", "{}")])
    red.record_materialisation("v", NOON, rows=1, started_us=NOON)
    deployed = red.start_deployment("late", 1, "here", "try")
    red.record_erasure(["carrier"], b"UA", NOON)
    red.put_schedule("nightly", pipeline="late", cron="0 3 * * *", next_us=NOON)
    monitor = red.save_monitor("drift", "psi", {})
    alert = red.open_alert("drift", "it drifts", monitor_id=monitor.id)
    return Written(run.id, dataset.id, applied.id, study.id, deployed.id, monitor.id, alert.id)


@pytest.mark.parametrize(("namespace", "project"), OTHERS)
def test_another_project_reads_nothing_of_it(
    url: str, clock: HandClock, written: Written, namespace: str, project: str
) -> None:
    with MetadataStore(url, clock, Principal("bob"), namespace=namespace, project=project) as other:
        assert other.list_runs() == []
        assert other.find_cached_step("k") is None
        assert other.latest_metrics([written.run_id]) == {written.run_id: {}}
        assert other.list_datasets() == []
        assert other.list_models() == []
        assert other.list_applies() == []
        assert other.last_apply() is None
        assert other.spec_versions("View", "v") == []
        assert other.list_materialisations() == []
        assert other.last_boundary("v") is None
        assert other.list_alerts() == []
        assert other.list_schedules() == []
        assert other.list_erasures() == []
        assert other.audit_entries() == []
        assert read_erasures(url, project=project, namespace=namespace) == []
        for ask in (
            lambda: other.get_run(written.run_id),
            lambda: other.get_run(written.run_id[:12]),
            lambda: other.get_run("latest"),
            lambda: other.get_metrics(written.run_id),
            lambda: other.get_params(written.run_id),
            lambda: other.list_steps(written.run_id),
            lambda: other.list_artifacts(written.run_id),
            lambda: other.cancel_requested(written.run_id),
            lambda: other.get_dataset(written.dataset_id),
            lambda: other.specs_of(written.apply_id),
            lambda: other.resolve_model("late@champion"),
            lambda: other.alias_history("late"),
            lambda: other.get_schedule("nightly"),
        ):
            with pytest.raises(UnknownNameError) as caught:
                ask()
            assert "Known:" not in str(caught.value)  # nor do hints name what is another's


@pytest.mark.parametrize(("namespace", "project"), OTHERS)
def test_another_project_changes_nothing_of_it(
    url: str, clock: HandClock, red: MetadataStore, written: Written, namespace: str, project: str
) -> None:
    step = red.start_step(written.run_id, "evaluate")
    before = (red.get_run(written.run_id), red.list_steps(written.run_id), red.audit_entries())
    with MetadataStore(url, clock, Principal("bob"), namespace=namespace, project=project) as other:
        for act in (
            lambda: other.finish_run(written.run_id, "failed"),
            lambda: other.request_cancel(written.run_id),
            lambda: other.take_lease(written.run_id, "thief", 100),
            lambda: other.start_step(written.run_id, "more"),
            lambda: other.finish_step(step.id, "failed"),
            lambda: other.log_metrics(written.run_id, {"auc": 0.1}),
            lambda: other.log_params(written.run_id, {"x": 1}),
            lambda: other.log_artifact(written.run_id, "y", "/y", "sha256:y", 1),
            lambda: other.use_dataset(written.run_id, written.dataset_id),
            lambda: other.remove_dataset(written.dataset_id, "x"),
            lambda: other.move_alias("late", "champion", None, "x"),
            lambda: other.pause_schedule("nightly"),
            lambda: other.remove_schedule("nightly"),
        ):
            with pytest.raises(UnknownNameError):
                act()
        mine = other.create_run("late")
        for refer in (
            lambda: other.use_dataset(mine.id, written.dataset_id),
            lambda: other.create_run("late", dataset_id=written.dataset_id),
            lambda: other.create_run("late", parent_id=written.run_id),
            lambda: other.log_artifact(mine.id, "y", "/y", "sha256:y", 1, step_id=step.id),
            lambda: other.create_study(
                "s", metric="m", direction="minimize", space={}, run_id=written.run_id
            ),
            lambda: other.list_trials(written.study_id),
            lambda: other.record_materialisation("v", 1, rows=1, started_us=1, run_id=written.run_id),
            lambda: other.register_model_version("late", written.run_id, "sha256:m"),
            lambda: other.register_model_version("x", None, "sha256:m", dataset_id=written.dataset_id),
            lambda: other.change_deployment(written.deployment_id, "running", "x"),
            lambda: other.open_alert("key", "title", monitor_id=written.monitor_id),
            lambda: other.change_alert(written.alert_id, "resolved"),
        ):
            with pytest.raises(UnknownNameError):
                refer()
        assert other.register_model_version("late", mine.id, "sha256:m").version == 1
    assert (red.get_run(written.run_id), red.list_steps(written.run_id), red.audit_entries()) == before
    assert [one.version for one in red.list_versions("late")] == [1]


def test_one_chain_holds_what_all_projects_did(url: str, clock: HandClock, written: Written) -> None:
    for namespace, project in OTHERS:
        with MetadataStore(url, clock, Principal("bob"), namespace=namespace, project=project) as other:
            other.record_audit("test", "thing")
            assert [row.project for row in other.audit_entries()] == [f"{namespace}/{project}"]
            assert other.audit_verify().ok
