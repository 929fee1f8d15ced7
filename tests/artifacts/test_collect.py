"""What a collection removes of a store, and what it leaves though it looked old a moment ago."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mlflow_core.artifacts import ArtifactStore, digest_bytes
from mlflow_core.artifacts.collect import collect
from mlflow_core.artifacts.place import Disk, Entry, Remote
from mlflow_core.artifacts.renewing import stored_again
from mlflow_core.config import FixedClock, SystemClock
from mlflow_core.errors import ArtifactError
from tests.artifacts.stored import a_folder, damage, files_in


def test_collection_keeps_what_is_needed_and_what_is_young(store: ArtifactStore, tmp_path: Path) -> None:
    tree = store.put_tree(a_folder(tmp_path))
    needed = store.put_bytes(b"needed", name="n")
    useless = store.put_bytes(b"useless", name="u")
    gone = digest_bytes(b"gone")
    hour = 3_600_000_000
    young = store.gc({tree.digest, needed.uri}, hour, SystemClock())
    assert (young.deleted, young.young, young.kept) == ((), 1, 4)
    later = FixedClock(SystemClock().now_us() + 2 * hour)
    planned = store.gc({tree.digest, needed.uri, gone}, hour, later, dry_run=True)
    assert planned.deleted == (useless.digest,)
    assert store.exists(useless.digest)
    done = store.gc({tree.digest, needed.uri, gone}, hour, later)
    assert (done.deleted, done.freed_bytes, done.missing) == ((useless.digest,), 7, (gone,))
    assert not store.exists(useless.digest)
    store.verify(tree.digest)
    rest = store.gc({needed.digest}, hour, later)
    assert len(rest.deleted) == 3
    assert list(store.list()) == [needed.digest]


class Remembering(MemoryFileSystem):
    """Answers from its last listing until it is to forget it, as those of buckets do."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.listed: dict[str, dict[str, object]] = {}

    def find(self, path: str, **named: object) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = super().find(path, **named)
        self.listed |= found
        return found

    def info(self, path: str, **named: object) -> dict[str, object]:
        told: dict[str, object] = self.listed.get(path) or super().info(path, **named)
        return told

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed.clear()


def test_what_somebody_else_has_put_again_since_it_was_listed_is_told_as_it_is_now() -> None:
    place = Remote(Remembering(), f"/{uuid.uuid4().hex}", "memory")
    place.put_bytes("one", b"1")
    (listed,) = place.walk("")

    place.put_bytes("one", b"22")

    now = place.entry("one")
    assert now is not None
    assert (listed.size, now.size) == (1, 2)
    assert now.stored_us > listed.stored_us
    assert [entry.size for entry in place.walk("")] == [2]


def test_an_object_of_a_bucket_is_removed_unless_it_was_put_again_since_whatever_a_listing_cuts_off() -> None:
    place = Remote(MemoryFileSystem(), f"/{uuid.uuid4().hex}", "memory")
    place.put_bytes("one", b"1")
    (entry,) = place.walk("")

    assert not place.delete_unchanged(replace(entry, stored_us=entry.stored_us - 1_000_000))
    assert place.delete_unchanged(replace(entry, stored_us=entry.stored_us - 999_999))
    assert not place.delete_unchanged(entry)
    assert list(place.walk("")) == []


def test_collection_keeps_the_old_files_of_a_young_folder(local: ArtifactStore, tmp_path: Path) -> None:
    tree = local.put_tree(a_folder(tmp_path))
    hour = 3_600_000_000
    for file in local.files_of(tree.digest):
        os.utime(local.path(file.digest), (0, 0))
    assert local.gc(set(), hour, SystemClock()).deleted == ()
    local.verify(tree.digest)


def test_storing_again_makes_young_so_that_a_collection_beside_it_is_harmless(local: ArtifactStore) -> None:
    artifact = local.put_bytes(b"shared", name="s")
    os.utime(local.path(artifact.digest), (0, 0))
    local.put_bytes(b"shared", name="s")
    assert local.gc(set(), 3_600_000_000, SystemClock()).deleted == ()


class Collected(Disk):
    """A folder from which a collection takes each object just when somebody has seen that it is there."""

    def entry(self, key: str) -> Entry | None:
        found = super().entry(key)
        self.delete(key)
        return found


def test_what_is_collected_while_it_is_stored_again_is_stored_anew(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    digest = digest_bytes(b"shared")
    disk.put_bytes("blobs/a", b"shared")

    assert stored_again(disk, "blobs/a", 6, digest)
    assert not stored_again(disk, "blobs/a", 7, digest)
    assert not stored_again(Collected(tmp_path), "blobs/a", 6, digest)


class StoredAgain(Disk):
    """A folder in which somebody stores an object again just when a collection has seen once more how old it is."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.seen: set[str] = set()

    def entry(self, key: str) -> Entry | None:
        found = super().entry(key)
        if key in self.seen and found is not None:
            assert stored_again(Disk(self._root), key, found.size, digest_bytes(b"shared"))
        self.seen.add(key)
        return found


def test_what_is_stored_again_while_a_collection_is_about_to_remove_it_stays(tmp_path: Path) -> None:
    key = f"blobs/{digest_bytes(b'shared')}"
    Disk(tmp_path).put_bytes(key, b"shared")
    os.utime(tmp_path / key, (1, 1))

    done = collect(StoredAgain(tmp_path), frozenset(), 10**9, lambda _: (), dry_run=False)

    assert done.deleted == ()
    assert (tmp_path / key).read_bytes() == b"shared"
    assert files_in(tmp_path) == [tmp_path / key]


def test_a_touched_folder_is_young_with_its_files_where_that_is_no_copy(
    local: ArtifactStore, tmp_path: Path
) -> None:
    tree = local.put_tree(a_folder(tmp_path))
    for digest in (tree.digest, *(file.digest for file in local.files_of(tree.digest))):
        os.utime(local.path(digest), (0, 0))
    assert local.stored_us(tree.digest) == 0

    local.touch(tree.digest)

    assert local.gc(set(), 3_600_000_000, SystemClock()).deleted == ()
    bucket = ArtifactStore(f"memory://{uuid.uuid4().hex}/store")
    far = bucket.put_bytes(b"far", name="f").digest
    before = bucket.stored_us(far)
    bucket.touch(far)
    assert bucket.stored_us(far) == before
    assert local.stored_us(far) is None


def test_collection_stops_before_it_removes_what_a_damaged_folder_may_need(
    local: ArtifactStore, tmp_path: Path
) -> None:
    tree = local.put_tree(a_folder(tmp_path))
    damage(local.path(tree.digest), b"?")
    later = FixedClock(SystemClock().now_us() + 10)
    with pytest.raises(ArtifactError, match="damaged"):
        local.gc({tree.digest}, 0, later)
    assert len(list(local.list())) == 3


def test_collection_removes_leftovers_of_writers_that_died(local: ArtifactStore, tmp_path: Path) -> None:
    local.put_bytes(b"x", name="x")
    leftover = tmp_path / "store" / "tmp" / "dead"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    report = local.gc({digest_bytes(b"x")}, 3_600_000_000, SystemClock())
    assert (report.leftovers, report.freed_bytes, leftover.exists()) == (1, 4, False)
