"""Runs, steps, params, metrics, artifacts: what is written is read, and only legal changes happen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError, UnknownNameError
from mlflow_core.metadata import MetadataStore, Metric, RunState
from tests.metadata.conftest import NOON, HandClock


def test_a_run_is_recorded_from_start_to_end(store: MetadataStore, clock: HandClock) -> None:
    run = store.create_run(
        "late", pipeline_fingerprint="sha256:p", seed=7, code={"commit": "abc"}, tags={"a": 1}
    )
    assert (run.state, run.started_us, run.principal, run.established) == ("running", NOON, "ada", "token")
    assert run.id.startswith("20131115T123000-")
    clock.us += 5
    done = store.finish_run(run.id, "succeeded")
    assert (done.state, done.ended_us, done.code) == (RunState.SUCCEEDED, NOON + 5, {"commit": "abc"})
    assert store.get_run(run.id) == done
    assert store.get_run(run.id[:18]) == done
    assert store.get_run("latest") == done


def test_steps_count_their_attempts_and_keep_how_each_ended(store: MetadataStore, clock: HandClock) -> None:
    run = store.create_run("late")
    first = store.start_step(run.id, "fit", worker="tcp://w1", cache_key="k1", cache_parts={"code": "c"})
    clock.us += 3
    store.finish_step(first.id, "crashed", exit_reason="signal 9", memory_bytes=123)
    second = store.start_step(run.id, "fit", cache_key="k1")
    store.finish_step(second.id, output_digest="sha256:o", cpu_us=9)
    steps = store.list_steps(run.id)
    assert [(s.name, s.attempt, s.state) for s in steps] == [("fit", 1, "crashed"), ("fit", 2, "succeeded")]
    assert (steps[0].exit_reason, steps[0].memory_bytes, steps[0].ended_us) == ("signal 9", 123, NOON + 3)
    assert store.find_cached_step("k1") == steps[1]
    assert store.find_cached_step("k2") is None


@pytest.mark.parametrize("then", ["succeeded", "failed", "crashed", "cancelled"])
@pytest.mark.parametrize("end", ["succeeded", "failed", "crashed", "cancelled"])
def test_a_run_that_has_ended_does_not_end_again(store: MetadataStore, end: str, then: str) -> None:
    run = store.create_run("late")
    store.finish_run(run.id, end, error="x" if end == "failed" else None)
    with pytest.raises(MetadataError, match=f"is {end} and cannot become {then}"):
        store.finish_run(run.id, then)
    with pytest.raises(MetadataError, match="cannot start"):
        store.start_step(run.id, "fit")


def test_a_run_is_resumed_from_every_bad_end_but_not_from_a_good_one(store: MetadataStore) -> None:
    for end in ("failed", "crashed", "cancelled"):
        run = store.create_run("late")
        store.finish_run(run.id, end, error="why")
        again = store.start_run(run.id)
        assert (again.state, again.error, again.ended_us) == ("running", None, None)
    store.finish_run(run.id, "succeeded")
    with pytest.raises(MetadataError, match="is succeeded and cannot become running"):
        store.start_run(run.id)


def test_a_pending_run_starts_or_is_cancelled_and_nothing_else(store: MetadataStore) -> None:
    run = store.create_run("late", pending=True)
    assert (run.state, run.started_us) == ("pending", None)
    with pytest.raises(MetadataError, match="is pending and cannot become succeeded"):
        store.finish_run(run.id, "succeeded")
    assert store.start_run(run.id).state == "running"
    other = store.create_run("late", pending=True)
    assert store.finish_run(other.id, "cancelled").state == "cancelled"


def test_steps_end_once_one_at_a_time_and_with_their_run(store: MetadataStore) -> None:
    run = store.create_run("late")
    step = store.start_step(run.id, "fit")
    with pytest.raises(MetadataError, match='step "fit" is running already'):
        store.start_step(run.id, "fit")
    with pytest.raises(MetadataError, match='cannot have succeeded while step "fit" is running'):
        store.finish_run(run.id, "succeeded")
    with pytest.raises(MetadataError, match='"running" is no way to end'):
        store.finish_step(step.id, "running")
    store.finish_run(run.id, "cancelled")
    closed = store.list_steps(run.id)[0]
    assert (closed.state, closed.exit_reason) == ("cancelled", "the run ended")
    with pytest.raises(MetadataError, match="is cancelled and cannot become succeeded"):
        store.finish_step(step.id)


def test_one_driver_holds_a_run_until_its_lease_has_run_out(store: MetadataStore, clock: HandClock) -> None:
    run = store.create_run("late")
    store.take_lease(run.id, "driver-1", 100)
    store.start_step(run.id, "fit")
    clock.us += 50
    assert store.take_lease(run.id, "driver-1", 100).lease_until_us == NOON + 150
    with pytest.raises(MetadataError, match=r"is driven by driver-1 until 2013-11-15T12:30"):
        store.take_lease(run.id, "driver-2", 100)
    clock.us += 100
    assert store.take_lease(run.id, "driver-2", 100).lease_owner == "driver-2"
    assert store.list_steps(run.id)[0].exit_reason == "its driver was lost"
    assert store.finish_run(run.id, "succeeded").lease_owner is None
    with pytest.raises(MetadataError, match="has succeeded"):
        store.take_lease(run.id, "driver-2", 100)


def test_params_keep_their_types_and_never_change(store: MetadataStore) -> None:
    run = store.create_run("late")
    params = {
        "depth": 6,
        "rate": 0.1,
        "name": "x",
        "list": [1, 2],
        "none": None,
        "flag": True,
        "n": np.int64(3),
    }
    store.log_params(run.id, params)
    store.log_params(run.id, {"depth": 6, "more": 1})
    assert store.get_params(run.id) == {**params, "n": 3, "more": 1}
    with pytest.raises(MetadataError, match='param "depth" is 6 already and cannot become 7'):
        store.log_params(run.id, {"depth": 7, "unseen": 1})
    assert "unseen" not in store.get_params(run.id)
    with pytest.raises(MetadataError, match="object has no JSON form"):
        store.log_params(run.id, {"bad": object()})


def test_metrics_are_kept_by_step_and_replaced_when_logged_again(
    store: MetadataStore, clock: HandClock
) -> None:
    run = store.create_run("late")
    store.log_metrics(run.id, {"auc": np.float32(0.5), "loss": 2}, step=1)
    clock.us += 1
    store.log_metrics(run.id, [Metric("auc", 0.6, 2, low=0.55, high=0.65, at_us=42), Metric("auc", 0.7, 1)])
    assert store.get_metrics(run.id) == [
        Metric("auc", 0.7, 1, at_us=NOON + 1),
        Metric("auc", 0.6, 2, 0.55, 0.65, 42),
        Metric("loss", 2.0, 1, at_us=NOON),
    ]
    assert [m.step for m in store.get_metrics(run.id, "auc")] == [1, 2]
    latest = store.latest_metrics([run.id])[run.id]
    assert {name: m.value for name, m in latest.items()} == {"auc": 0.6, "loss": 2.0}


def test_metrics_that_are_not_finite_survive(store: MetadataStore) -> None:
    run = store.create_run("late")
    store.log_metrics(run.id, {"nan": math.nan, "up": math.inf, "down": -math.inf})
    values = {m.name: m.value for m in store.get_metrics(run.id)}
    assert math.isnan(values["nan"])
    assert (values["up"], values["down"]) == (math.inf, -math.inf)


def test_a_metric_that_is_no_number_writes_nothing(store: MetadataStore) -> None:
    run = store.create_run("late")
    with pytest.raises(MetadataError, match='metric "b" is None'):
        store.log_metrics(run.id, {"a": 1.0, "b": None})  # type: ignore[dict-item]
    assert store.get_metrics(run.id) == []


def test_numbers_of_numpy_are_kept_as_numbers_and_a_step_is_a_whole_one(store: MetadataStore) -> None:
    run = store.create_run("late", seed=np.int64(7))  # type: ignore[arg-type]
    assert (run.seed, store.get_run(run.id).seed) == (7, 7)
    for step in (np.int64(3), np.int32(300), 20):
        store.log_metrics(run.id, {"auc": np.float32(0.5)}, step=step)  # type: ignore[dict-item,arg-type]
    assert [(type(one.step), one.step) for one in store.get_metrics(run.id)] == [
        (int, 3),
        (int, 20),
        (int, 300),
    ]
    assert store.latest_metrics([run.id])[run.id]["auc"].step == 300
    with pytest.raises(MetadataError, match=r'"loss" has the step 1\.5.*whole numbers'):
        store.log_metrics(run.id, {"loss": 1.0, "auc": 0.5}, step=1.5)  # type: ignore[arg-type]
    assert len(store.get_metrics(run.id)) == 3


def test_an_earlier_step_that_comes_late_does_not_become_the_last(store: MetadataStore) -> None:
    run = store.create_run("late")
    for step, value in ((5, 0.5), (2, 0.2), (5, math.nan), (-1, 0.1)):
        store.log_metrics(run.id, {"auc": value}, step=step)
    last = store.latest_metrics([run.id])[run.id]["auc"]
    assert (last.step, math.isnan(last.value)) == (5, True)
    store.log_metrics(run.id, [Metric("auc", 0.9, 9), Metric("auc", 0.7, 7), Metric("auc", 0.8, 9)])
    assert store.latest_metrics([run.id])[run.id]["auc"].value == 0.8
    assert [one.step for one in store.get_metrics(run.id)] == [-1, 2, 5, 7, 9]


def test_more_runs_are_read_at_once_than_a_statement_may_name(store: MetadataStore, kind: str) -> None:
    run = store.create_run("late")
    store.log_params(run.id, {"depth": 6})
    store.log_metrics(run.id, {"auc": 0.7})
    ids = [f"nobody-{number}" for number in range({"sqlite": 260_000, "postgresql": 70_000}[kind])]
    ids.insert(len(ids) // 2, run.id)
    store._own_runs.clear()
    metrics, params = store.latest_metrics(ids), store.params_of_runs(ids)
    assert len(metrics) == len(params) == len(ids)
    assert (metrics[run.id]["auc"].value, params[run.id]) == (0.7, {"depth": 6})


def test_many_metrics_are_one_batch(store: MetadataStore) -> None:
    run = store.create_run("late")
    store.log_metrics(run.id, [Metric(f"m{i % 10}", float(i), i // 10) for i in range(5_000)])
    assert len(store.get_metrics(run.id)) == 5_000
    assert len(store.get_metrics(run.id, "m3")) == 500


@pytest.mark.parametrize("count", [49, 50, 51, 100, 137])
def test_batches_of_any_size_are_written_whole_and_replace_what_was_there(
    store: MetadataStore, count: int
) -> None:
    run = store.create_run("late")
    earlier = [Metric("auc", -1.0, 3), Metric("loss", -2.0, count + 1), Metric("m7", -3.0, 9)]
    store.log_metrics(run.id, earlier)
    store.log_metrics(run.id, [Metric("auc", step / 8, step) for step in range(count)])
    store.log_metrics(run.id, [Metric(f"m{number}", number, 1) for number in range(count)])

    assert [one.value for one in store.get_metrics(run.id, "auc")] == [step / 8 for step in range(count)]
    latest = {name: one.value for name, one in store.latest_metrics([run.id])[run.id].items()}
    named = {f"m{number}": number for number in range(count)}
    assert latest == {"auc": (count - 1) / 8, "loss": -2.0} | named | {"m7": -3.0}

    store.log_params(run.id, {f"p{number:03}": number for number in range(count - 1)})
    store.log_params(run.id, {f"p{number:03}": number for number in range(count)})
    assert list(store.get_params(run.id).values()) == list(range(count))
    with pytest.raises(MetadataError, match='param "p007" is 7 already'):
        store.log_params(
            run.id, {f"p{number:03}": 8 if number == 7 else number for number in range(2 * count)}
        )
    assert len(store.get_params(run.id)) == count


def test_an_artifact_is_replaced_by_name(store: MetadataStore) -> None:
    run = store.create_run("late")
    step = store.start_step(run.id, "report")
    store.log_artifact(run.id, "report.html", "/a", "sha256:a", 1, media_type="text/html", step_id=step.id)
    store.log_artifact(run.id, "report.html", "/b", "sha256:b", 2)
    (artifact,) = store.list_artifacts(run.id)
    assert (artifact.uri, artifact.digest, artifact.size, artifact.step_id) == ("/b", "sha256:b", 2, None)


def test_runs_are_listed_newest_first_and_filtered(store: MetadataStore, clock: HandClock) -> None:
    ids = []
    for n in range(4):
        clock.us += 1_000_000
        ids.append(store.create_run("late" if n % 2 else "other").id)
    store.finish_run(ids[3], "failed", error="bad label")
    assert [run.id for run in store.list_runs()] == ids[::-1]
    assert [run.id for run in store.list_runs(pipeline="late")] == [ids[3], ids[1]]
    assert [run.error for run in store.list_runs(state="failed")] == ["bad label"]
    assert [run.id for run in store.list_runs(limit=2, offset=1)] == [ids[2], ids[1]]
    assert ids == sorted(ids)


def test_a_run_that_is_not_there_is_named_and_an_ambiguous_one_too(store: MetadataStore) -> None:
    with pytest.raises(UnknownNameError, match='there is no run "latest"'):
        store.get_run("latest")
    store.create_run("late")
    store.create_run("late")
    with pytest.raises(UnknownNameError, match='there is no run "nope"'):
        store.get_run("nope")
    with pytest.raises(UnknownNameError, match="more than one run begins"):
        store.get_run("2013")
    with pytest.raises(UnknownNameError):
        store.get_run("%")


def test_projects_do_not_see_each_other(store: MetadataStore, url: str, clock: HandClock) -> None:
    run = store.create_run("late")
    for project, namespace in (("other", "default"), ("flights", "team b")):
        with MetadataStore(url, clock, Principal("bob"), project=project, namespace=namespace) as other:
            assert other.list_runs() == []
            with pytest.raises(UnknownNameError):
                other.get_run(run.id)
            other.create_run("theirs")
    assert [r.id for r in store.list_runs()] == [run.id]


def test_a_text_that_no_database_takes_is_one_clear_error_and_leaves_nothing_behind(
    store: MetadataStore,
) -> None:
    run = store.create_run("late")
    for write in (
        lambda: store.log_params(run.id, {"good": 1, "path": "Zo\udceb"}),
        lambda: store.finish_run(run.id, "failed", error="Zo\udceb"),
        lambda: store.create_run("Zo\udceb"),
        lambda: store.create_run("late", seed=2**70),
    ):
        with pytest.raises(MetadataError, match=r"a value cannot be kept|out of range"):
            write()
    assert store.get_params(run.id) == {}
    assert [one.state for one in store.list_runs()] == ["running"]
    assert store.finish_run(run.id, "failed", error="café").error == "café"
