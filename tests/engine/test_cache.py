"""The cache: entries are whole or not there, the ones used longest ago go first, and none that is in use."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_core.engine.files.entries import facts_of, is_dead, mark, write_entry
from mlflow_core.engine.layouts import cache as caching
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.errors import EngineError

KILLED = """
import sys, time
from pathlib import Path
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.files.entries import write_entry

def fill(draft):
    (draft / "half.arrow").write_bytes(b"x" * 1000)
    print("writing", flush=True)
    time.sleep(60)
    return {}

folder = Path(sys.argv[1])
with Cache(folder).leased(["mine"]):
    write_entry(folder / "mine", fill)
"""


def put(folder: Path, name: str, size: int = 100) -> None:
    write_entry(
        folder / name, lambda draft: (draft / "rows.arrow").write_bytes(os.urandom(size)) and {"kind": "x"}
    )


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in Cache(folder).entries())


def used(folder: Path, name: str, when: float) -> None:
    os.utime(folder / name / "entry.json", (when, when))


def test_an_entry_tells_what_was_recorded_and_how_large_it_is(tmp_path):
    put(tmp_path, "a", 1_000)

    [entry] = Cache(tmp_path).entries()

    assert (entry.name, entry.bytes, entry.in_use, entry.facts["kind"]) == ("a", 1_000, False, "x")
    assert facts_of(tmp_path / "a") == entry.facts


@pytest.mark.parametrize("harm", ["truncate", "zero", "lose a file", "lose the record", "garble the record"])
def test_a_damaged_entry_is_not_trusted_and_written_again(tmp_path, harm):
    put(tmp_path, "a", 50_000)
    data, record = tmp_path / "a" / "rows.arrow", tmp_path / "a" / "entry.json"
    if harm == "truncate":
        data.write_bytes(data.read_bytes()[:-1])
    elif harm == "zero":
        data.write_bytes(bytes(50_000))
    elif harm == "lose a file":
        data.unlink()
    elif harm == "lose the record":
        record.unlink()
    else:
        record.write_text("{")

    assert facts_of(tmp_path / "a") is None
    put(tmp_path, "a", 50_000)

    assert facts_of(tmp_path / "a") is not None
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_of_two_writers_the_first_wins_and_the_second_leaves_nothing(tmp_path):
    def slower(draft: Path) -> dict:
        put(tmp_path, "a", 10)  # somebody else finishes meanwhile
        (draft / "rows.arrow").write_bytes(b"slower")
        return {}

    write_entry(tmp_path / "a", slower)

    assert (tmp_path / "a" / "rows.arrow").stat().st_size == 10
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path):
    def full(draft: Path) -> dict:
        (draft / "rows.arrow").write_bytes(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(EngineError, match=r"No space left on device.*mlcore cache clean"):
        write_entry(tmp_path / "a", full)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("swept", [Cache.trim, Cache.sweep])
def test_a_killed_writer_leaves_nothing_that_is_trusted_and_what_it_left_is_swept(tmp_path, swept):
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    assert list(tmp_path.glob(".draft.*/half.arrow"))

    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()

    assert facts_of(tmp_path / "mine") is None
    assert names(tmp_path) == []
    swept(Cache(tmp_path))
    assert list(tmp_path.glob(".draft.*")) == []
    assert list((tmp_path / "leases").glob(".lease.*")) == []


def test_what_was_used_longest_ago_goes_first_until_the_rest_fits(tmp_path):
    for age, name in enumerate(["new", "middle", "old"]):
        put(tmp_path, name)
        used(tmp_path, name, 1_000.0 - age)

    removed = Cache(tmp_path, limit=250).trim()

    assert [one.name for one in removed] == ["old"]
    assert names(tmp_path) == ["middle", "new"]
    assert Cache(tmp_path, limit=250).trim() == ()


def test_what_a_running_retrieval_uses_stays_and_counts_as_used(tmp_path):
    for name in ("held", "other"):
        put(tmp_path, name)
        used(tmp_path, name, 1.0)
    cache = Cache(tmp_path, limit=0)

    with cache.leased(["held", "not written yet"]):
        put(tmp_path, "not written yet")
        assert [one.name for one in cache.trim()] == ["other"]
        assert {one.name: one.in_use for one in cache.entries()} == {"held": True, "not written yet": True}
        assert facts_of(tmp_path / "held") is not None
    assert min(one.used for one in cache.entries()) > time.time() - 60
    assert [one.name for one in cache.trim()] == ["held", "not written yet"]


def test_a_lease_of_another_machine_that_fell_silent_holds_nothing(tmp_path):
    put(tmp_path, "a")
    lease = tmp_path / "leases" / ".lease.1.abc.another-machine"
    lease.parent.mkdir()
    lease.write_text(json.dumps(["a"]))

    assert Cache(tmp_path, limit=0).trim() == ()
    os.utime(lease, (time.time() - 1_000,) * 2)

    assert [one.name for one in Cache(tmp_path, limit=0).trim()] == ["a"]
    assert not lease.exists()


def test_entries_go_by_how_long_nobody_used_them(tmp_path):
    for name, when in (("yesterday", 100_000.0), ("last week", 10_000.0)):
        put(tmp_path, name)
        used(tmp_path, name, when)

    removed = Cache(tmp_path, now=lambda: 150_000.0).trim(unused_for=86_400.0)

    assert [one.name for one in removed] == ["last week"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(EngineError, match=r"cache: .*file.*cannot be written to"):
        put(tmp_path / "file", "a")
    with (
        pytest.raises(EngineError, match=r"cannot be written to.*\[cache\] location"),
        Cache(tmp_path / "file").leased(["a"]),
    ):
        pass


def test_a_process_that_got_the_number_of_a_dead_one_does_not_keep_what_that_held(tmp_path):
    put(tmp_path, "a")
    ours = mark("lease")
    started = ours.split(".")[2].partition("-")[2]
    assert is_dead(ours) is False
    lease = tmp_path / "leases" / ours.replace(f"-{started}.", f"-{int(started) - 1}.")
    lease.parent.mkdir()
    lease.write_text(json.dumps(["a"]))

    assert is_dead(lease.name) is True
    assert [one.name for one in Cache(tmp_path, limit=0).trim()] == ["a"]
    assert not lease.exists()


def test_files_that_are_no_entries_drafts_or_leases_harm_nothing(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "leases").mkdir()
    for name in ("README", "leases/.lease.odd", "leases/.lease.x.y.z.u.v", ".draft.", ".gone.of.somebody"):
        (tmp_path / name).write_text("odd")

    with Cache(tmp_path, limit=0).leased(["a"]):
        assert Cache(tmp_path, limit=0).trim() == ()
    assert [one.name for one in Cache(tmp_path, limit=0).trim()] == ["a"]


def test_a_lease_that_was_swept_while_it_is_held_is_taken_again(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "_HEARTBEAT", 0.01)
    put(tmp_path, "a")
    cache = Cache(tmp_path, limit=0)

    with cache.leased(["a"]):
        [lease] = (tmp_path / "leases").iterdir()
        lease.unlink()
        patience = time.monotonic() + 10
        while not (lease.exists() and lease.read_text()) and time.monotonic() < patience:
            time.sleep(0.01)

        assert cache.trim() == ()
    assert [one.name for one in cache.trim()] == ["a"]


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.ENOSPC, "mlcore cache clean"), (errno.EROFS, r"\[cache\] location")]
)
def test_a_lease_that_cannot_be_written_is_one_clear_error_and_leaves_none(tmp_path, monkeypatch, code, hint):
    put(tmp_path, "a")
    write = Path.write_text

    def failing(self: Path, text: str) -> int:
        write(self, text[:1])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(EngineError, match=hint), Cache(tmp_path).leased(["a"]):
        pass

    assert list((tmp_path / "leases").iterdir()) == []
