"""A run's log: from its file while it runs, from its artifact elsewhere, followed until the run has ended."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.cli.boundary import run as mlcore
from mlflow_core.workflow.run_log import LOG, log_file


def line(message, **more):
    told = {"time": "2026-01-02T03:04:05.000006Z", "level": "info", "logger": "x", "message": message}
    return json.dumps({**told, **more}) + "\n"


def write(root, run_id, text, mode="a"):
    file = log_file(root, run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open(mode) as stream:
        stream.write(text)


def test_a_line_is_when_how_serious_which_step_and_what(root, store, capsys):
    run = store.create_run("late")
    write(
        root,
        run.id,
        line("begins") + line("gone wrong", step="train", level="error", exception="Traceback: x"),
    )

    assert mlcore(["--root", str(root), "runs", "logs"]) == 0

    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["03:04:05", "info", "begins"]
    assert second.split() == ["03:04:05", "error", "train", "gone", "wrong"]
    assert third == "Traceback: x"


def test_only_one_steps_lines(root, store, capsys):
    run = store.create_run("late")
    write(root, run.id, line("begins") + line("rounds", step="train"))

    assert mlcore(["--root", str(root), "--json", "runs", "logs", run.id, "--step", "train"]) == 0

    assert [one["message"] for one in json.loads(capsys.readouterr().out)] == ["rounds"]


def test_a_run_of_another_machine_is_read_from_its_artifact(root, store, capsys, tmp_path):
    run = store.create_run("late")
    artifacts = ArtifactStore(str(root / ".mlcore" / "artifacts"))
    kept = artifacts.put_bytes(line("from elsewhere").encode(), name=LOG)
    store.log_artifact(run.id, LOG, kept.uri, kept.digest, kept.size)
    store.finish_run(run.id, "succeeded")

    for words in (["runs", "logs"], ["runs", "logs", "--follow"]):
        assert mlcore(["--root", str(root), *words]) == 0
        assert "from elsewhere" in capsys.readouterr().out


def test_a_run_without_a_log_says_where_one_would_be(root, store, capsys):
    store.finish_run(store.create_run("late").id, "failed", error="it was not to be")

    assert mlcore(["--root", str(root), "runs", "logs"]) == 2
    assert "has no log here" in capsys.readouterr().err


def test_following_ends_with_a_driver_of_this_machine_that_is_gone(root, store, capsys):
    run = store.create_run("late")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    store.take_lease(run.id, f"{socket.gethostname()}:{ended.pid}:1:x", 3_600_000_000)
    write(root, run.id, line("one"))

    assert mlcore(["--root", str(root), "runs", "logs", "latest", "--follow"]) == 0
    assert "one" in capsys.readouterr().out


def test_following_prints_what_is_written_until_the_run_ends(root, store, capsys):
    run = store.create_run("late")
    write(root, run.id, line("one") + line("two")[:10])

    def go_on():
        write(root, run.id, line("two")[10:])
        time.sleep(1.0)
        write(root, run.id, line("three"))
        store.finish_run(run.id, "succeeded")

    driver = threading.Thread(target=go_on)
    driver.start()
    try:
        assert mlcore(["--root", str(root), "--json", "runs", "logs", "latest", "--follow"]) == 0
    finally:
        driver.join()

    told = [json.loads(one)["message"] for one in capsys.readouterr().out.splitlines()]
    assert told == ["one", "two", "three"]
