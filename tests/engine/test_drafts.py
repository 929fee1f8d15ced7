"""Drafts: there for the time of the work, and taken away later where their owner was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_core.engine.files.drafts import OWNER, draft_folder
from mlflow_core.errors import EngineError

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from mlflow_core.engine.files.drafts import draft_folder
with draft_folder(Path(sys.argv[1]), "engine") as folder:
    (folder / "inside").mkdir()
    (folder / "inside" / "rows").write_text("1")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds a draft, and the draft."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_draft_is_there_for_the_time_of_the_work_only(tmp_path):
    with draft_folder(tmp_path / "new", "engine") as folder:
        (folder / "rows").write_text("1")
        assert folder.parent == tmp_path / "new"

    assert list((tmp_path / "new").iterdir()) == []


def test_a_draft_whose_owner_was_killed_is_taken_away_by_the_next(tmp_path, holder):
    process, lost = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (lost / "inside" / "rows").exists()

    with draft_folder(tmp_path, "engine") as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_a_draft_whose_owner_works_on_it_stays(tmp_path, holder):
    _, theirs = holder

    with draft_folder(tmp_path, "engine"):
        pass

    assert (theirs / "inside" / "rows").read_text() == "1"


def test_a_draft_of_another_machine_stays_until_it_is_a_week_old(tmp_path):
    far = tmp_path / f"engine-{'0' * 32}"
    far.mkdir()
    (far / OWNER).write_text("another-machine since-some-time")

    with draft_folder(tmp_path, "engine"):
        assert far.exists()
    week_ago = time.time() - 8 * 86_400
    os.utime(far / OWNER, (week_ago, week_ago))
    with draft_folder(tmp_path, "engine"):
        assert not far.exists()


def test_what_is_no_draft_of_ours_stays(tmp_path):
    for name in ("engine", "engine-old", f"other-{'0' * 32}", f"engine-{'1' * 32}"):
        (tmp_path / name).mkdir()
    (tmp_path / f"engine-{'2' * 32}").symlink_to(tmp_path / "engine")

    with draft_folder(tmp_path, "engine"):
        assert len(list(tmp_path.iterdir())) == 6


def test_what_was_given_up_half_way_is_taken_away(tmp_path):
    (tmp_path / f".engine-{'0' * 32}.gone").mkdir()

    with draft_folder(tmp_path, "engine") as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_vanishes_does_not_hide_why_the_work_failed(tmp_path):
    with (
        pytest.raises(EngineError, match="the storage has gone"),
        draft_folder(tmp_path / "shared", "engine") as folder,
    ):
        folder.parent.rename(tmp_path / "elsewhere")
        raise EngineError("the storage has gone")


def test_where_no_folder_can_be_made_the_place_and_the_reason_are_named(tmp_path):
    (tmp_path / "taken").write_text("a file")

    with (
        pytest.raises(EngineError, match=r"no folder can be made in .*taken.work: Not a directory"),
        draft_folder(tmp_path / "taken" / "work", "engine"),
    ):
        raise AssertionError("nothing is done without it")


def test_an_error_of_the_work_itself_stays_as_it_is(tmp_path):
    with pytest.raises(OSError, match="of the work"), draft_folder(tmp_path, "engine"):
        raise OSError("of the work")

    assert list(tmp_path.iterdir()) == []
