"""What a step used: its own peak of memory and processor time, and nothing where nothing was done or another tells."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from mlflow_core.workflow.footprint import Footprint
from mlflow_core.workflow.told import Usage
from mlflow_core.workflow.training import run_pipeline

LARGE = 96 << 20


def used(proc=None, *, size=0):
    """Measure some work that holds so many bytes for a moment."""
    footprint, usage = Footprint() if proc is None else Footprint(proc), Usage()
    if size:
        held = np.ones(size, np.uint8)
        time.sleep(0.2)
        del held
    footprint.complete(usage)
    return usage


@pytest.mark.parametrize("refused", [False, True])
def test_the_peak_is_that_of_the_time_measured_and_not_of_what_was_before(tmp_path, refused):
    proc = tmp_path / "no-such-folder" if refused else None

    large, small = used(proc, size=LARGE), used(proc)

    assert large.memory_bytes > LARGE
    assert large.memory_bytes - small.memory_bytes > LARGE // 2
    assert small.memory_bytes > 0


def test_the_time_is_that_of_all_threads():
    def work():
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            sum(range(1000))

    footprint, usage = Footprint(), Usage()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    footprint.complete(usage)

    assert usage.cpu_us >= 100_000


def test_what_a_step_told_itself_stays():
    usage = Usage("there", 7, 8)

    Footprint().complete(usage)

    assert usage == Usage("there", 7, 8)


def test_every_step_of_a_training_has_its_peak_and_its_time(workspace):
    trained = run_pipeline(workspace, "breakdown")

    steps = workspace.metadata.list_steps(trained.run_id)
    assert [one.name for one in steps] == ["dataset", "train", "evaluate", "report", "register"]
    for step in steps:
        assert step.memory_bytes > 10 << 20, step.name
        assert step.cpu_us > 0, step.name
