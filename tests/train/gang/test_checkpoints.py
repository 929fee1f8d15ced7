"""Checkpoints: whole or passed over, of this training or refused, two at most, nothing left in the end."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.errors import MachineError, TrainError
from mlflow_core.train.gang.checkpoints import Checkpoints

FILES = {"model": bytes(range(256)) * 20, "optimiser": b"", "sampler": b"\x00\xff"}


def written(folder: Path, *ats: int, identity: str = "mine") -> Checkpoints:
    kept = Checkpoints(folder, identity)
    for at in ats:
        kept.write(
            at, {name: data + str(at).encode() for name, data in FILES.items()}, {"at": at, "loss": at / 3}
        )
    return kept


def test_the_newest_is_read_as_it_was_written(tmp_path: Path):
    last = written(tmp_path / "kept", 5, 10, 15).last()

    assert last is not None
    assert last.at == 15
    assert last.facts == {"at": 15, "loss": 5.0}
    assert last.files == {name: data + b"15" for name, data in FILES.items()}


def test_the_last_two_are_kept(tmp_path: Path):
    written(tmp_path, 5, 10, 100, 15)

    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{at:012d}.checkpoint" for at in (15, 100)]


def test_where_nothing_was_written_there_is_none(tmp_path: Path):
    assert Checkpoints(tmp_path / "nowhere", "mine").last() is None
    assert not (tmp_path / "nowhere").exists()


def test_numbers_come_back_to_the_bit(tmp_path: Path):
    kept, facts = Checkpoints(tmp_path, "mine"), {"x": 0.1 + 0.2, "y": math.inf, "n": 2**70, "text": "né"}
    kept.write(0, {}, facts)

    assert kept.last().facts == facts
    assert kept.last().files == {}


def test_the_same_step_is_written_anew(tmp_path: Path):
    kept = written(tmp_path, 5)
    kept.write(5, {"model": b"again"}, {})

    assert kept.last().files == {"model": b"again"}


def test_cut_anywhere_it_is_passed_over_for_the_one_before(tmp_path: Path):
    """Every byte of the head, where each field has its own way to be cut, and every thousandth of the rest."""
    warned: list[str] = []
    written(tmp_path, 5, 10)
    newest = tmp_path / f"{10:012d}.checkpoint"
    whole = newest.read_bytes()
    kept = Checkpoints(tmp_path, "mine", warn=warned.append)

    cuts = sorted({*range(400), *range(400, len(whole), len(whole) // 100), len(whole) - 1})
    for cut in cuts:
        newest.write_bytes(whole[:cut])
        assert kept.last().at == 5, cut
        assert len(warned) == 1
        assert str(newest) in warned.pop()

    newest.write_bytes(whole)
    assert kept.last().at == 10
    assert warned == []


def test_a_byte_that_differs_anywhere_is_noticed(tmp_path: Path):
    warned: list[str] = []
    written(tmp_path, 5, 10)
    newest = tmp_path / f"{10:012d}.checkpoint"
    whole = newest.read_bytes()
    kept = Checkpoints(tmp_path, "mine", warn=warned.append)

    for at in (*range(0, 400, 3), *range(400, len(whole), 97), len(whole) - 1):
        newest.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert kept.last().at == 5, at
    newest.write_bytes(whole + b"x")
    assert kept.last().at == 5


def test_if_both_are_damaged_there_is_none_and_both_are_named(tmp_path: Path):
    warned: list[str] = []
    written(tmp_path, 5, 10)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])

    assert Checkpoints(tmp_path, "mine", warn=warned.append).last() is None
    assert len(warned) == 2


def test_that_of_another_training_is_refused_and_both_are_named(tmp_path: Path):
    written(tmp_path, 5, identity="theirs")

    with pytest.raises(
        TrainError, match=r"of another training \(theirs\), not of this one \(mine\).*Use another place"
    ):
        Checkpoints(tmp_path, "mine").last()


def test_one_of_another_training_is_refused_though_the_newest_is_ours(tmp_path: Path):
    written(tmp_path, 5, identity="theirs")
    written(tmp_path, 10)

    with pytest.raises(TrainError, match="another training"):
        Checkpoints(tmp_path, "mine").last()


def test_in_the_end_nothing_is_left(tmp_path: Path):
    kept = written(tmp_path / "kept", 5, 10)
    (tmp_path / "kept" / "000000000015-abc.part").write_bytes(b"half")

    kept.clear()

    assert list(tmp_path.iterdir()) == []
    kept.clear()


def test_what_is_not_ours_is_left_alone(tmp_path: Path):
    kept = written(tmp_path, 5)
    (tmp_path / "notes.txt").write_text("mine")

    kept.clear()

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_killed_writers_have_left_goes_after_a_while(tmp_path: Path):
    kept = written(tmp_path, 5)
    old, new = tmp_path / "000000000010-a.part", tmp_path / "000000000010-b.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))

    kept.write(10, {}, {})

    assert not old.exists()
    assert new.exists()


def test_a_writer_of_an_attempt_that_was_given_up_does_not_take_newer_ones_away(tmp_path: Path):
    now, before = written(tmp_path, 50, 60), written(tmp_path / "x")
    before = Checkpoints(tmp_path, "mine")

    before.write(45, {"model": b"late"}, {})

    assert now.last().at == 60
    assert sorted(path.name for path in tmp_path.glob("*.checkpoint")) == [
        f"{at:012d}.checkpoint" for at in (50, 60)
    ]


@pytest.mark.chaos
def test_a_writer_killed_in_the_middle_leaves_the_one_before(tmp_path: Path):
    script = (
        "import os, sys; from pathlib import Path; from mlflow_core.train.gang.checkpoints import Checkpoints\n"
        "class Files(dict):\n"
        "    def values(self):\n"
        "        yield b'x' * 100_000\n"
        "        os.kill(os.getpid(), 9)\n"
        f"kept = Checkpoints(Path({str(tmp_path)!r}), 'mine')\n"
        "kept.write(5, {'model': b'whole'}, {})\n"
        "kept.write(10, Files(a=b'x' * 100_000, b=b'y'), {})\n"
    )

    ended = subprocess.run([sys.executable, "-c", script], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert Checkpoints(tmp_path, "mine").last().files == {"model": b"whole"}
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".checkpoint", ".part"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.chaos
def test_a_full_disk_is_told_and_leaves_the_one_before(small_disk: Path):
    kept = Checkpoints(small_disk, "mine")
    kept.write(5, {"model": b"x" * 100_000}, {})

    with pytest.raises(TrainError, match=r"checkpoint 10: the disk is full\. Free some space"):
        kept.write(10, {"model": b"x" * 500_000}, {})

    assert kept.last().at == 5
    assert [path.name for path in small_disk.iterdir()] == [f"{5:012d}.checkpoint"]


def test_two_in_a_row_may_fail_and_the_third_may_not(tmp_path: Path):
    kept, place = Checkpoints(tmp_path / "place", "mine"), tmp_path / "place"

    def attempts(*ats: int) -> list[bool]:
        return [kept.attempt(at, FILES, {}) is None for at in ats]

    place.write_text("no folder")
    assert attempts(1, 2) == [False, False]
    place.unlink()
    assert attempts(3) == [True]  # which makes up for those before
    (place / f"{3:012d}.checkpoint").rename(tmp_path / "three")
    place.rmdir()
    place.write_text("no folder")
    assert attempts(4, 5) == [False, False]
    with pytest.raises(MachineError, match="checkpoint 6: cannot be written"):
        kept.attempt(6, FILES, {})
