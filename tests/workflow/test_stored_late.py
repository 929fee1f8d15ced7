"""Between the end of a training and the stored model: whoever fails or is killed there trains no round again."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest

from mlflow_core.errors import MetadataError
from mlflow_core.train.models.model import Model
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.resuming import resume_run
from mlflow_core.workflow.runner import Runner
from mlflow_core.workflow.training import measuring, run_pipeline
from tests.train.xgboost.counted import counted_rounds


def kept_trainings(workspace):
    """The files of trainings in a store that is a folder."""
    return [one for one in (Path(workspace.artifacts.location) / "trainings").rglob("*") if one.is_file()]


@pytest.fixture
def rounds(monkeypatch):
    return counted_rounds(monkeypatch)


STORED_LATE = """
import os, signal, sys
from pathlib import Path
from mlflow_core.artifacts import ArtifactStore
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import run_pipeline

put_tree = ArtifactStore.put_tree

def killed(self, folder, **named):
    if named.get("name") == "model":
        os.kill(os.getpid(), signal.SIGKILL)
    return put_tree(self, folder, **named)

ArtifactStore.put_tree = killed
run_pipeline(open_workspace(Path(sys.argv[1])), "breakdown")
"""


@pytest.mark.chaos
def test_a_driver_killed_between_the_training_and_the_stored_model_trains_no_round_again(
    machines, workspace, rounds
):
    run_pipeline(workspace, "breakdown")
    model = workspace.metadata.resolve_model("breakdown").artifact_digest
    every = len(rounds)
    other = machines.parent / "other"
    shutil.copytree(machines, other, ignore=shutil.ignore_patterns(".mlcore"))

    ended = subprocess.run([sys.executable, "-c", STORED_LATE, str(other)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    again = open_workspace(other)
    left = kept_trainings(again)
    resumed = resume_run(again, "latest")

    assert {path.suffix for path in left} == {"", ".checkpoint"}
    assert every > 0
    assert len(rounds) == every, "all of them before"
    assert again.metadata.resolve_model("breakdown").artifact_digest == model
    assert "a training that was interrupted went on from its last checkpoint" in resumed.warnings
    assert kept_trainings(again) == []
    assert list(again.trainings.iterdir()) == []
    again.metadata.close()


def test_records_that_fail_once_the_model_is_stored_cost_no_round(workspace, monkeypatch, rounds):
    note = Runner._note

    def gone(self, node, *arguments):
        if node.name == "train":
            raise MetadataError("is gone", object="the database")
        note(self, node, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "_note", gone)
        with pytest.raises(MetadataError, match="is gone"):
            run_pipeline(workspace, "breakdown")
    every = len(rounds)
    assert every > 0
    resume_run(workspace, "latest")

    assert len(rounds) == every
    assert kept_trainings(workspace) == []


@pytest.mark.parametrize("what", ["the model's store", "the evaluation"])
def test_a_fresh_training_that_goes_on_does_not_train_again_what_it_has_trained_itself(
    workspace, monkeypatch, rounds, what
):
    def broken(*_args, **_named):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        if what == "the evaluation":
            patched.setattr(measuring, "_evaluate", broken)
        else:
            patched.setattr(Model, "save", broken)
        with pytest.raises(OSError, match="Input/output"):
            run_pipeline(workspace, "breakdown", fresh=True)
    every = len(rounds)
    assert every > 0
    resume_run(workspace, "latest")

    assert len(rounds) == every
    assert kept_trainings(workspace) == []


def test_a_store_that_fails_after_the_training_costs_no_round_wherever_it_is(machines, monkeypatch, rounds):
    monkeypatch.setenv("MLCORE_ARTIFACTS_LOCATION", f"memory://{uuid.uuid4().hex}")
    here = open_workspace(machines)

    def full(self, folder, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Model, "save", full)
        with pytest.raises(OSError, match="No space left"):
            run_pipeline(here, "breakdown")
    every = len(rounds)
    assert every > 0
    resumed = run_pipeline(here, "breakdown")

    assert len(rounds) == every
    assert resumed.version == 1
    store, path = fsspec.core.url_to_fs(here.artifacts.location)
    assert store.find(f"{path}/trainings") == []
    here.metadata.close()
    store.rm(path, recursive=True)
