"""Steps called on this machine: what they read and leave, and how each of their ends is told."""

from __future__ import annotations

import importlib
import json
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from mlflow_core.engine.dataset.manifest import MANIFEST
from mlflow_core.errors import ArtifactError, StepCancelled, StepCrashed, StepFailed, StepTimeout
from mlflow_core.spec import Step
from mlflow_core.workflow.calling import ForkServer, call_of, call_step
from mlflow_core.workflow.calling import values as step_values
from tests.workflow.calling.processes import alive, read_when_there, when


def test_a_table_goes_from_step_to_step_and_equal_ones_are_the_same_artifact(steps, server) -> None:
    made = call_step(steps.call("numbers", n=4), server=server)
    again = call_step(steps.call("numbers", n=4), server=server)
    added = call_step(steps.reading("total", numbers=made), server=server)

    assert (made.kind, made.digest) == ("table", again.digest)
    assert (added.kind, steps.store.read_bytes(added.digest)) == ("value", b"6")
    assert made.memory_bytes > 1 << 20
    assert made.cpu_us > 0


def test_a_table_may_be_read_as_the_folder_that_it_is(steps, server) -> None:
    made = call_step(steps.call("numbers"), server=server)

    named = call_step(steps.reading("named", numbers=made), server=server)

    assert json.loads(steps.store.read_bytes(named.digest)) == ["part-00000.parquet"]


def test_a_file_is_read_under_its_name_and_what_a_reader_does_to_it_changes_nothing(steps, server) -> None:
    made = call_step(steps.call("letter", since="2014-05-01"), server=server)

    for _ in range(2):
        read = call_step(steps.reading("reads", letter=made), server=server)
        assert json.loads(steps.store.read_bytes(read.digest)) == "letter.txt: since 2014"


def test_a_folder_is_kept_whole(steps, server) -> None:
    made = call_step(steps.call("folder"), server=server)

    assert (made.kind, [one.path for one in steps.store.files_of(made.digest)]) == ("files", ["deep/a.txt"])


def test_a_dataset_is_read_as_one_table_that_says_of_which_part_each_row_is(steps, server, tmp_path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    for name, n in (("a.parquet", 2), ("b.parquet", 3)):
        pq.write_table(_table(n), folder / name)
    (folder / MANIFEST).write_text(json.dumps({"shards": {"train": ["b.parquet"], "test": ["a.parquet"]}}))
    stored = step_values.Stored(steps.store.put_tree(folder).digest, "dataset")

    read = step_values.read_input(stored, "table", steps.store, tmp_path / "read")

    assert read["part"].to_pylist() == ["train"] * 3 + ["test"] * 2
    assert not (tmp_path / "read").exists()


def _table(n: int):
    import pyarrow as pa

    return pa.table({"n": list(range(n))})


def test_chance_and_the_order_of_sets_are_the_same_in_each_process_and_follow_the_seed(steps) -> None:
    digests = []
    for seed in (1, 1, 2):
        with ForkServer() as server:
            digests.append(call_step(replace(steps.call("chance"), seed=seed), server=server).digest)

    assert digests[0] == digests[1] != digests[2]


def test_a_setting_called_seed_is_the_runs_unless_it_is_given(steps, server) -> None:
    own = call_step(replace(steps.call("seeded"), seed=5), server=server)
    given = call_step(replace(steps.call("seeded", seed=6), seed=5), server=server)

    assert [steps.store.read_bytes(one.digest) for one in (own, given)] == [b"5", b"6"]


def test_what_a_step_and_its_children_print_and_log_is_told_and_kept(steps, server) -> None:
    lines: list[str] = []

    called = call_step(steps.call("speaks"), told=lines.append, server=server)

    assert lines == ["printed", "INFO mine: logged", "by a child", "half"]
    assert called.log == "\n".join(lines)
    assert steps.store.read_bytes(called.digest) == b"null"


def test_of_very_much_that_is_said_all_is_told_and_the_last_is_kept(steps, server) -> None:
    lines: list[str] = []

    called = call_step(steps.call("floods", lines=60_000), told=lines.append, server=server)

    assert lines == [f"line {number}" for number in range(60_000)]
    first, *kept = called.log.split("\n")
    assert first == f"... {60_000 - len(kept)} earlier lines are not kept"
    assert kept == lines[-len(kept) :]


def test_a_step_is_ended_in_time_also_when_nobody_listens_to_what_it_says(steps, server) -> None:
    asked = threading.Event()
    listening = threading.Event()
    lines: list[str] = []

    def hear(line: str) -> None:
        asked.set()
        listening.wait()
        lines.append(line)

    def listen_when_it_is_gone() -> None:
        asked.wait()
        try:
            floods = when(lambda: [one for one in _below(server._started.process.pid) if _is_flooding(one)])
            when(lambda: not any(alive(one) for one in floods))
        finally:
            listening.set()

    later = threading.Thread(target=listen_when_it_is_gone)
    later.start()
    try:
        with pytest.raises(StepTimeout):
            call_step(steps.call("floods_for_ever"), timeout_s=4.0, told=hear, server=server)
    finally:
        asked.set()
    later.join()

    assert "ä" * 1001 in lines
    assert not any("\ufffd" in line for line in lines[:-1])


def _below(process: int) -> list[int]:
    return [one.pid for one in psutil.Process(process).children(recursive=True)]


def _is_flooding(process: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).name() == "yes"
    return False


def test_a_step_may_have_processes_of_its_own_and_may_close_its_streams(steps, server) -> None:
    for name, left in (("helped", b"[1, 2, 3]"), ("quiet", b"1")):
        assert steps.store.read_bytes(call_step(steps.call(name), server=server).digest) == left


def test_an_error_of_the_users_is_told_with_its_line_and_its_traceback(steps, server) -> None:
    with pytest.raises(StepFailed) as raised:
        call_step(steps.call("raises"), server=server)

    text = (steps.root / "jobs" / "steps.py").read_text().split("\n")
    line = text.index('    return values["missing"]') + 1
    assert str(raised.value) == f"jobs/steps.py:{line}: Step \"raises\": KeyError: 'missing'"
    assert 'File "' in raised.value.log
    assert ", in _deeper" in raised.value.log
    assert "mlflow_core" not in raised.value.log


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("mute", "ValueError: unheard"),
        ("unspeakable", "Unspeakable: what it says cannot be shown"),
        ("no text", "ValueError: \\udcff of a file's name"),
        ("long", f"ValueError: {'x' * 2000}..."),
    ],
)
def test_an_error_of_the_users_is_theirs_however_odd_and_told_in_a_line(
    steps, server, how: str, told: str
) -> None:
    with pytest.raises(StepFailed) as raised:
        call_step(steps.call("raises_oddly", how=how), server=server)

    assert str(raised.value).endswith(told)


def test_a_connection_that_is_closed_is_an_error_that_a_step_can_catch(steps, server) -> None:
    assert (
        steps.store.read_bytes(call_step(steps.call("hangs_up"), server=server).digest) == b'"nobody listens"'
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("leaves", "SystemExit: enough"),
        ("holds_nothing", "returned a table that Parquet cannot hold: Cannot write struct type"),
        ("promises_a_table", "returned dict, and is annotated to return pyarrow.Table"),
        ("promises_whole_numbers", "returned bool, and is annotated to return int"),
        ("no_json", "the result['deep'][0]['at'] is object, which is no JSON value"),
        ("no_number", "the result[1] is nan, which JSON has no word for"),
        ("itself", "the result holds itself"),
        ("nowhere", "returned the path not-there, and there is nothing"),
        ("numberz", 'has no step "numberz". Did you mean "numbers"?'),
    ],
)
def test_what_is_the_users_to_mend_is_a_failure(steps, server, name: str, told: str) -> None:
    with pytest.raises(StepFailed) as raised:
        call_step(steps.call(name), server=server)

    assert told in str(raised.value)


def test_a_module_that_cannot_be_imported_is_the_users_to_mend(steps, server) -> None:
    (steps.root / "jobs" / "broken.py").write_text("import nothing_of_this_name\n")

    with pytest.raises(StepFailed) as raised:
        call_step(steps.call("any", module="jobs.broken"), server=server)

    assert "jobs/broken.py:1" in str(raised.value)
    assert "No module named 'nothing_of_this_name'" in str(raised.value)


def test_code_that_was_edited_since_the_run_began_is_not_run(steps, server) -> None:
    code = {"jobs.steps:version": "sha256:other", "jobs.gone:nothing": "sha256:any"}

    with pytest.raises(StepFailed, match=r"is not the code that the run began with: jobs\.steps:version"):
        call_step(replace(steps.call("version"), code=code), server=server)


def test_code_is_compared_by_its_text_so_a_module_may_hold_the_time(steps, server, monkeypatch) -> None:
    text = "import time\n\nimport mlflow_core as ml\n\nBEGAN = time.time()\n\n\n@ml.step\ndef began() -> bool:\n    return BEGAN > 0\n"
    (steps.root / "clock_of_a_step.py").write_text(text)
    monkeypatch.syspath_prepend(str(steps.root))
    step = importlib.import_module("clock_of_a_step").began()

    call = call_of(step, {}, artifacts=steps.store, project=(steps.root,))

    assert set(call.code) == {"clock_of_a_step:BEGAN", "clock_of_a_step:began"}
    assert steps.store.read_bytes(call_step(call, server=server).digest) == b"true"


def test_each_step_sees_the_code_as_it_is_on_disk(steps, server) -> None:
    file = steps.root / "jobs" / "steps.py"
    first = call_step(steps.call("version"), server=server)
    file.write_text(
        file.read_text().replace("def version() -> int:\n    return 1", "def version() -> int:\n    return 2")
    )

    second = call_step(steps.call("version"), server=server)

    assert [steps.store.read_bytes(one.digest) for one in (first, second)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("faults", "ended by SIGSEGV"),
        ("is_killed", "ended by SIGKILL; most likely the machine ran out of memory"),
        ("exits", "exit status 7, without a result"),
        ("cannot_have", "out of memory"),
    ],
)
def test_a_process_that_ends_without_a_result_is_a_crash(steps, server, name: str, told: str) -> None:
    with pytest.raises(StepCrashed) as raised:
        call_step(steps.call(name), server=server)

    assert told in str(raised.value)


def test_a_step_that_uses_more_memory_than_it_may_is_ended(steps, server) -> None:
    ended = server.call(
        steps.call("grows"),
        timeout_s=None,
        stopped=lambda: False,
        told=lambda line: None,
        memory_limit=600 << 20,
    )

    assert ended.how == "crashed"
    assert ended.fault.what == "was ended because it used more memory than it may"


def test_an_input_that_is_gone_is_a_crash_since_it_may_come_back(steps, server) -> None:
    made = call_step(steps.call("numbers"), server=server)
    steps.store.delete_tree(made.digest)

    with pytest.raises(StepCrashed, match="its inputs cannot be read"):
        call_step(steps.reading("total", numbers=made), server=server)


def test_a_timeout_ends_what_ignores_term_with_all_that_it_started_and_neighbours_finish(
    steps, server, tmp_path
) -> None:
    neighbour: list[object] = []
    beside = threading.Thread(
        target=lambda: neighbour.append(call_step(steps.call("waits", at=str(tmp_path / "b")), server=server))
    )
    beside.start()

    with pytest.raises(StepTimeout, match="longer than 5 s"):
        call_step(steps.call("stays", at=str(tmp_path / "a")), timeout_s=5.0, server=server)

    assert not any(alive(one) for one in read_when_there(tmp_path / "a"))
    (tmp_path / "b").touch()
    beside.join()
    assert steps.store.read_bytes(neighbour[0].digest) == b"7"


def test_a_step_is_ended_on_request(steps, server, tmp_path) -> None:
    with pytest.raises(StepCancelled):
        call_step(
            steps.call("ends_well", at=str(tmp_path / "a"), seconds=600.0),
            stopped=lambda: (tmp_path / "a").exists(),
            server=server,
        )

    assert not alive(read_when_there(tmp_path / "a")[0])


def test_a_request_that_comes_before_the_server_is_there_is_heard(steps, tmp_path) -> None:
    call = steps.call("waits", at=str(tmp_path / "never"))

    with ForkServer() as server:
        ended = server.call(call, timeout_s=15.0, stopped=lambda: True, told=lambda line: None)

    assert ended.how == "stopped"


def test_what_a_step_leaves_behind_ends_with_it(steps, server, tmp_path) -> None:
    called = call_step(steps.call("leaves_one_behind", at=str(tmp_path / "a")), server=server)

    assert steps.store.read_bytes(called.digest) == b"1"
    assert not alive(read_when_there(tmp_path / "a")[0])


def test_a_step_works_in_a_folder_of_its_own_that_is_gone_afterwards(steps, server, tmp_path) -> None:
    called = call_step(replace(steps.call("where"), workdir=str(tmp_path)), server=server)

    folder = Path(json.loads(steps.store.read_bytes(called.digest)))
    assert folder.is_relative_to(tmp_path)
    assert not folder.exists()


def test_a_server_that_was_killed_is_started_again(steps) -> None:
    with ForkServer() as server:
        call_step(steps.call("version"), server=server)
        server._started.process.kill()
        when(lambda: not server.running)

        assert call_step(steps.call("version"), server=server).kind == "value"


def test_two_steps_run_at_the_same_time(steps, server, tmp_path) -> None:
    called: list[object] = []
    both = [
        threading.Thread(
            target=lambda name=name: called.append(
                call_step(steps.call("ends_well", at=str(tmp_path / name)), server=server)
            )
        )
        for name in ("a", "b")
    ]
    for one in both:
        one.start()
    running = {*read_when_there(tmp_path / "a"), *read_when_there(tmp_path / "b")}
    for one in both:
        one.join()

    assert len(running) == 2
    assert len(called) == 2


def test_a_store_in_this_processs_memory_is_refused_before_anything_runs(steps) -> None:
    from mlflow_core.artifacts import ArtifactStore

    step = Step("numbers", import_path="jobs.steps:numbers", gives="table")

    with pytest.raises(ArtifactError, match="cannot be read by a step's process"):
        call_of(step, {}, artifacts=ArtifactStore("memory://x"), project=(steps.root,))
