"""Where a training works: kept while it has a checkpoint to go on from, shared by no two drivers, gone at the end."""

from __future__ import annotations

import os
import time

import pytest

from mlflow_core.spec import Recovery, XGBoost
from mlflow_core.workflow.training_folder import training_folder

TRAINER = XGBoost(rounds=5)


def begin(parent, **more):
    """A training that writes a checkpoint and is interrupted."""
    with pytest.raises(KeyboardInterrupt), training_folder(parent, TRAINER, "d", **more) as folder:
        (folder.path / "checkpoints").mkdir(exist_ok=True)
        (folder.path / "checkpoints" / "50.checkpoint").write_text("half")
        raise KeyboardInterrupt
    return folder


def test_an_interrupted_training_finds_its_checkpoints_again_and_a_finished_one_leaves_nothing(tmp_path):
    first = begin(tmp_path)

    with training_folder(tmp_path, TRAINER, "d") as again:
        assert (again.path / "checkpoints" / "50.checkpoint").read_text() == "half"

    assert (first.begun, again.begun) == (False, True)
    assert again.path == first.path
    assert list(tmp_path.iterdir()) == []


def test_another_trainer_or_dataset_is_another_training(tmp_path):
    begin(tmp_path)

    with (
        training_folder(tmp_path, XGBoost(rounds=6), "d") as other,
        training_folder(tmp_path, TRAINER, "e") as elsewhere,
    ):
        assert not other.begun
        assert not elsewhere.begun


def test_a_fresh_start_forgets_the_checkpoints(tmp_path):
    begin(tmp_path)

    with training_folder(tmp_path, TRAINER, "d", fresh=True) as folder:
        assert not folder.begun
        assert list(folder.path.iterdir()) == []


def test_two_drivers_of_the_same_training_work_apart_and_the_second_leaves_nothing(tmp_path):
    begin(tmp_path)

    with training_folder(tmp_path, TRAINER, "d") as first:
        second = begin(tmp_path)
        assert second.path != first.path
        assert not second.path.exists()
        assert first.begun

    assert list(tmp_path.iterdir()) == []


def test_a_training_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="bad"), training_folder(tmp_path, TRAINER, "d") as folder:
        (folder.path / "scratch").write_text("x")
        raise ValueError("bad")

    assert list(tmp_path.iterdir()) == []


def test_what_never_came_back_is_taken_away_after_two_weeks_but_not_by_its_own_driver(tmp_path):
    old = begin(tmp_path).path
    long_ago = time.time() - 15 * 86_400
    for path in (*old.rglob("*"), old):
        os.utime(path, (long_ago, long_ago))

    with training_folder(tmp_path, TRAINER, "d") as again:
        assert again.begun
    begin(tmp_path)
    for path in (*old.rglob("*"), old):
        os.utime(path, (long_ago, long_ago))
    with training_folder(tmp_path, TRAINER, "another"):
        assert not old.exists()


def test_a_checkpoint_that_was_written_lately_keeps_a_folder_that_is_old(tmp_path):
    old = begin(tmp_path).path
    os.utime(old, (0, 0))

    with training_folder(tmp_path, TRAINER, "another"):
        assert (old / "checkpoints" / "50.checkpoint").exists()


def test_of_an_interrupted_training_only_checkpoints_stay_wherever_they_are(tmp_path):
    with pytest.raises(KeyboardInterrupt), training_folder(tmp_path, TRAINER, "d") as folder:
        for name in ("all/checkpoints/30.checkpoint", "family/rows.parquet", "all/scratch/bins"):
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text("x")
        raise KeyboardInterrupt

    left = [path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()]
    assert left == ["all/checkpoints/30.checkpoint"]
    with training_folder(tmp_path, TRAINER, "d") as again:
        assert again.begun


def test_how_a_training_runs_does_not_make_it_another(tmp_path):
    begin(tmp_path)

    with training_folder(tmp_path, XGBoost(rounds=5, recovery=Recovery(restarts=1)), "d") as again:
        assert again.begun
