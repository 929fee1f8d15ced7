"""The runner alone, on small graphs: what runs when, what is tried again, and what is written down."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import FixedClock, Principal
from mlflow_core.errors import ClusterLost, PlanError, RunCancelled, StepCrashed, StepFailed, StepTimeout
from mlflow_core.metadata import MetadataStore
from mlflow_core.telemetry.progress import SilentProgress
from mlflow_core.workflow.graph import Graph, Node, Output
from mlflow_core.workflow.journal import Journal
from mlflow_core.workflow.keys import KeyParts, cache_key, difference, written
from mlflow_core.workflow.runner import Runner
from mlflow_core.workflow.told import Usage


@pytest.fixture
def metadata(tmp_path):
    """A metadata store on disk, because steps that run beside each other share it."""
    store = MetadataStore(f"sqlite:///{tmp_path / 'm.sqlite'}", FixedClock(0), Principal("ada", "os"))
    yield store
    store.close()


@pytest.fixture
def artifacts(tmp_path):
    return ArtifactStore(str(tmp_path / "artifacts"))


def giving(value, *, log=None, name=""):
    """Work that leaves a value and notes that it ran."""

    def work(context):
        if log is not None:
            log.append(name or value)
        read = [context.artifacts.read_bytes(one.digest).decode() for one in context.inputs.values()]
        return Output(context.artifacts.put_bytes("".join([*read, value]).encode()).digest, "value")

    return work


def node(name, *needs, work=None, **more):
    return Node(name, needs, KeyParts(params={"name": name}), work or giving(name), **more)


def go(metadata, artifacts, folder, graph, **more):
    """Run a graph as a run of its own; the run's id and what it gave."""
    run_id = metadata.create_run("p").id
    folder.mkdir(exist_ok=True)
    journal = Journal(metadata, artifacts, run_id, SilentProgress())
    with journal.whole() as hold:
        return run_id, Runner(journal, hold, folder, **more).run(Graph.of(graph))


def attempts(metadata, run_id):
    return [(one.name, one.attempt, one.state.value) for one in metadata.list_steps(run_id)]


def test_each_step_reads_what_the_steps_before_it_left(metadata, artifacts, tmp_path):
    graph = [node("c", "a", "b"), node("b", "a"), node("a")]

    run_id, outputs = go(metadata, artifacts, tmp_path / "d", graph)

    assert artifacts.read_bytes(outputs["c"].digest) == b"aabc"
    assert [name for name, _, _ in attempts(metadata, run_id)] == ["a", "b", "c"]
    assert {one.name for one in metadata.list_artifacts(run_id)} >= {"a", "b", "c"}
    assert metadata.get_run(run_id).state == "succeeded"


def test_a_step_that_gives_the_same_again_ends_what_follows_from_a_change(metadata, artifacts, tmp_path):
    ran = []

    def graph(setting):
        first = Node("a", (), KeyParts(params={"setting": setting}), giving("a", log=ran))
        return [first, node("b", "a", work=giving("b", log=ran))]

    go(metadata, artifacts, tmp_path / "d", graph(1))
    go(metadata, artifacts, tmp_path / "d", graph(2))
    go(metadata, artifacts, tmp_path / "d", graph(1))

    assert ran == ["a", "b", "a"]


def failing(times, error):
    """Work that raises so many times before it gives something."""
    left = [times]

    def work(context):
        if left[0]:
            left[0] -= 1
            raise error
        return giving("done")(context)

    return work


@pytest.mark.parametrize(
    "error",
    [StepCrashed("signal 9"), StepTimeout("too long"), ClusterLost("went away")],
)
def test_a_crash_or_a_timeout_is_tried_again_each_time_after_twice_as_long(
    metadata, artifacts, tmp_path, error
):
    waited = []
    graph = [node("a", work=failing(2, error), retries=2, backoff_s=1.0)]

    run_id, _ = go(metadata, artifacts, tmp_path / "d", graph, pause=waited.append)

    assert attempts(metadata, run_id) == [("a", 1, "crashed"), ("a", 2, "crashed"), ("a", 3, "succeeded")]
    assert sum(waited) == pytest.approx(1.0 + 2.0)


def test_a_users_error_is_not_tried_again(metadata, artifacts, tmp_path):
    graph = [node("a", work=failing(1, StepFailed("ValueError: no")), retries=5)]

    with pytest.raises(StepFailed, match="ValueError: no"):
        go(metadata, artifacts, tmp_path / "d", graph)

    run_id = metadata.get_run("latest").id
    assert attempts(metadata, run_id) == [("a", 1, "failed")]
    assert metadata.get_run(run_id).state == "failed"


@pytest.mark.parametrize("error", [KeyError("of a user's network"), MemoryError("no memory")])
def test_what_fails_in_this_process_by_any_other_error_is_not_tried_again(
    error, metadata, artifacts, tmp_path
):
    graph = [node("a", work=failing(1, error), retries=5)]

    with pytest.raises(type(error)):
        go(metadata, artifacts, tmp_path / "d", graph)

    assert attempts(metadata, "latest") == [("a", 1, "crashed")]


def test_memory_that_was_missing_elsewhere_may_be_there_the_next_time(metadata, artifacts, tmp_path):
    graph = [node("a", work=failing(1, MemoryError("no memory")), retries=1, aside=True)]

    run_id, _ = go(metadata, artifacts, tmp_path / "d", graph, pause=lambda _seconds: None)

    assert attempts(metadata, run_id) == [("a", 1, "crashed"), ("a", 2, "succeeded")]


@pytest.mark.parametrize("why", ["it does not hold any more", "it was damaged"])
def test_a_step_whose_earlier_output_is_of_no_use_is_tried_again_as_often_as_any(
    why, metadata, artifacts, tmp_path
):
    _, first = go(metadata, artifacts, tmp_path / "d", [node("a", work=giving("done"))])
    if why == "it was damaged":
        artifacts.path(first["a"].digest).chmod(0o644)
        artifacts.path(first["a"].digest).write_bytes(b"rust")
    holds = (lambda _output: False) if why == "it does not hold any more" else None
    graph = [node("a", work=failing(1, ClusterLost("went away")), retries=1, holds=holds)]

    run_id, _ = go(metadata, artifacts, tmp_path / "d", graph, pause=lambda _seconds: None)

    assert attempts(metadata, run_id) == [("a", 1, "crashed"), ("a", 2, "succeeded")]


def test_a_client_that_lost_its_scheduler_has_found_it_or_given_up_before_a_step_is_tried_again(
    metadata, artifacts, tmp_path
):
    client = SimpleNamespace(status="connecting")
    waited = []

    def pause(seconds):
        waited.append(seconds)
        if sum(waited) > 3.0:
            client.status = "running"

    graph = [node("a", work=failing(1, ClusterLost("went away")), retries=1, backoff_s=1.0)]
    run_id, _ = go(metadata, artifacts, tmp_path / "d", graph, client=client, pause=pause)

    assert attempts(metadata, run_id) == [("a", 1, "crashed"), ("a", 2, "succeeded")]
    assert 3.0 < sum(waited) < 4.0


def test_a_crash_too_many_ends_the_run_as_crashed_with_the_reason(metadata, artifacts, tmp_path):
    graph = [node("a", work=failing(9, StepTimeout("took longer than 1 s")), retries=1)]

    with pytest.raises(StepTimeout):
        go(metadata, artifacts, tmp_path / "d", graph, pause=lambda _seconds: None)

    run = metadata.get_run("latest")
    assert run.state == "crashed"
    assert {one.exit_reason for one in metadata.list_steps(run.id)} == {"timeout"}


def test_steps_whose_work_is_done_elsewhere_run_beside_each_other(metadata, artifacts, tmp_path):
    both = threading.Barrier(2, timeout=20)

    def meeting(context):
        both.wait()  # neither would come here if the other had to end first
        return giving("met")(context)

    graph = [node("a", work=meeting, aside=True), node("b", work=meeting, aside=True), node("c", "a", "b")]

    run_id, _ = go(metadata, artifacts, tmp_path / "d", graph)

    assert metadata.get_run(run_id).state == "succeeded"


def test_when_a_step_fails_its_neighbour_is_let_finish_and_found_next_time(metadata, artifacts, tmp_path):
    failed = threading.Event()
    ran = []

    def slow(context):
        assert failed.wait(20)
        return giving("slow", log=ran)(context)

    def bad(_context):
        failed.set()
        raise StepFailed("no")

    graph = [node("slow", work=slow, aside=True), node("bad", work=bad, aside=True), node("c", "slow", "bad")]
    with pytest.raises(StepFailed):
        go(metadata, artifacts, tmp_path / "d", graph)
    assert ("slow", 1, "succeeded") in attempts(metadata, "latest")

    mended = [node("slow", work=slow, aside=True), node("bad", aside=True), node("c", "slow", "bad")]
    go(metadata, artifacts, tmp_path / "d", mended)

    assert ran == ["slow"]


def test_a_cancel_between_two_steps_starts_nothing_more(metadata, artifacts, tmp_path):
    def cancelling(context):
        metadata.request_cancel(context.run_id)
        while not context.stopped():
            pass
        return giving("a")(context)

    with pytest.raises(RunCancelled):
        go(metadata, artifacts, tmp_path / "d", [node("a", work=cancelling), node("b", "a")])

    run = metadata.get_run("latest")
    assert run.state == "cancelled"
    assert [name for name, _, _ in attempts(metadata, run.id)] == ["a"]


def test_steps_that_need_each_other_or_nobody_knows_are_no_graph():
    with pytest.raises(PlanError, match="in a circle: a, b"):
        Graph.of([node("a", "b"), node("b", "a")])
    with pytest.raises(PlanError, match=r'needs a step "datasett".*Did you mean "dataset"'):
        Graph.of([node("dataset"), node("train", "datasett")])
    with pytest.raises(PlanError, match='two steps "a"'):
        Graph.of([node("a"), node("a")])


def test_a_key_follows_from_each_part_and_differences_name_the_part():
    base = KeyParts({"f": "1"}, {"a": {"b": 1}}, {"view v": "1"}, {"s": "1"}, "e")
    others = [
        KeyParts({"f": "2"}, base.params, base.features, base.data, "e"),
        KeyParts(base.code, {"a": {"b": 2}}, base.features, base.data, "e"),
        KeyParts(base.code, base.params, {"view v": "2"}, base.data, "e"),
        KeyParts(base.code, base.params, base.features, {"s": "2"}, "e"),
        KeyParts(base.code, base.params, base.features, base.data, "f"),
    ]
    keys = {cache_key(one, {"x": "1"}) for one in (base, *others)} | {cache_key(base, {"x": "2"})}
    assert len(keys) == 7
    told = [difference(written(base, {}), written(one, {}))[0] for one in others]
    assert [one.part for one in told] == ["code", "params", "features", "data", "environment"]
    assert told[1].describe() == "params: a.b 1 -> 2"


def test_a_step_of_this_process_is_measured_one_elsewhere_tells_itself_and_a_found_one_has_no_peak(
    metadata, artifacts, tmp_path
):
    def elsewhere(context):
        context.told.usage = Usage("there", 7, 8)
        return Output(context.artifacts.put_bytes(b"b").digest, "value")

    def graph():
        return [node("a"), node("b", work=elsewhere, aside=True), node("c", aside=True)]

    run_id, _ = go(metadata, artifacts, tmp_path / "d", graph())
    again, _ = go(metadata, artifacts, tmp_path / "d", graph())

    steps = {one.name: one for one in metadata.list_steps(run_id)}
    assert steps["a"].memory_bytes > 1 << 20
    assert steps["a"].cpu_us >= 0
    assert (steps["b"].worker, steps["b"].memory_bytes, steps["b"].cpu_us) == ("there", 7, 8)
    assert (steps["c"].memory_bytes, steps["c"].cpu_us) == (None, None)
    assert [(one.cache_hit, one.memory_bytes) for one in metadata.list_steps(again)] == [(True, None)] * 3


def test_a_step_that_fails_has_its_footprint_too(metadata, artifacts, tmp_path):
    def failing(context):
        raise StepFailed("no")

    with pytest.raises(StepFailed):
        go(metadata, artifacts, tmp_path / "d", [node("a", work=failing)])

    (step,) = metadata.list_steps(metadata.get_run("latest").id)
    assert (step.state, step.memory_bytes > 1 << 20) == ("failed", True)


def test_an_output_that_was_damaged_is_made_again_and_whole_then(metadata, artifacts, tmp_path):
    graph = [node("a"), node("b", "a")]
    _, first = go(metadata, artifacts, tmp_path / "d", graph)
    blob = artifacts.path(first["a"].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"x")  # as many bytes, so that only the content tells

    run_id, again = go(metadata, artifacts, tmp_path / "d", graph)

    assert [(one.name, one.cache_hit) for one in metadata.list_steps(run_id)] == [("a", False), ("b", True)]
    assert artifacts.read_bytes(again["a"].digest) == b"a"
