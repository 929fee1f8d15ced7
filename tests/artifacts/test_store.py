"""The store's contract, on a folder and on an fsspec filesystem: idempotent, whole or not at all, checked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.artifacts import ArtifactStore, digest_bytes, digest_of
from mlflow_core.errors import ArtifactError
from tests.artifacts.stored import a_folder, damage, files_in
from tests.train import shelved


def test_bytes_come_back_by_digest_by_uri_and_by_bare_hex(store: ArtifactStore) -> None:
    artifact = store.put_bytes(b"hello", name="greeting", media_type="text/plain")
    assert artifact.digest == "sha256:" + hashlib.sha256(b"hello").hexdigest()
    assert (artifact.size, artifact.media_type, artifact.name) == (5, "text/plain", "greeting")
    for key in (artifact.digest, artifact.uri, artifact.digest[7:]):
        assert store.read_bytes(key) == b"hello"
    with store.open(artifact.uri) as stream:
        assert stream.read(2) == b"he"
    assert store.exists(artifact.digest)
    assert list(store.list()) == [artifact.digest]


def test_storing_the_same_bytes_again_changes_nothing(store: ArtifactStore) -> None:
    assert store.put_bytes(b"x", name="a") == store.put_bytes(b"x", name="a")
    assert len(list(store.list())) == 1


@given(data=st.binary(max_size=300))
def test_any_bytes_survive(data: bytes) -> None:
    store = ArtifactStore("memory://any")
    assert store.read_bytes(store.put_bytes(data, name="x").digest) == data


def test_a_folder_comes_back_whole_and_equal_folders_have_one_digest(
    store: ArtifactStore, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path)
    artifact = store.put_tree(folder)
    assert artifact.size == sum(path.stat().st_size for path in files_in(folder))
    os.utime(folder / "index.html", (0, 0))
    assert store.put_tree(folder, name="again").digest == artifact.digest
    out = store.fetch_tree(artifact.digest, tmp_path / "out")
    assert {p.relative_to(out): p.read_bytes() for p in files_in(out)} == {
        p.relative_to(folder): p.read_bytes() for p in files_in(folder)
    }
    assert [file.path for file in store.files_of(artifact.uri)] == [
        "index.html",
        "plots/copy.svg",
        "plots/roc.svg",
    ]
    assert len(list(store.list())) == 3  # the manifest and two different contents
    (folder / "index.html").write_text("changed")
    assert store.put_tree(folder).digest != artifact.digest
    store.verify(artifact.digest)


def test_parquet_shards_are_linked_and_read_in_place(local: ArtifactStore, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    for shard in range(3):
        pq.write_table(pa.table({"x": [shard * 2, shard * 2 + 1]}), folder / f"part-{shard:05}.parquet")
    (folder / "report.json").write_text("{}")
    artifact = local.put_tree(folder, link=True)
    paths = local.paths_of(artifact.digest, suffix=".parquet")
    assert [path.stat().st_ino for path in paths] == [
        p.stat().st_ino for p in sorted(folder.glob("*.parquet"))
    ]
    table = pyarrow.dataset.dataset([str(path) for path in paths], format="parquet").to_table()
    assert table["x"].to_pylist() == [0, 1, 2, 3, 4, 5]
    again = local.put_tree(folder, link=True)  # links to what is linked already
    assert again.digest == artifact.digest
    assert not files_in(tmp_path / "store" / "tmp")


def test_a_copy_is_read_only_and_does_not_follow_its_source(local: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "model.ubj"
    source.write_bytes(b"one")
    artifact = local.put_file(source)
    source.write_bytes(b"two")
    assert local.read_bytes(artifact.digest) == b"one"
    assert local.path(artifact.digest).stat().st_mode & 0o222 == 0
    assert artifact.name == "model.ubj"


@pytest.mark.parametrize("bad", [b"hell", b"hellO", b""])
def test_a_truncated_or_changed_blob_is_found_on_every_way_of_reading(
    local: ArtifactStore, tmp_path: Path, bad: bytes
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a").write_bytes(b"hello")
    tree = local.put_tree(folder)
    blob = digest_bytes(b"hello")
    damage(local.path(blob), bad)
    ways = [
        lambda: local.read_bytes(blob),
        lambda: local.open(blob),
        lambda: local.verify(blob),
        lambda: local.verify(tree.digest),
        lambda: local.fetch_tree(tree.digest, tmp_path / "out"),
    ]
    if len(bad) != 5:
        ways.append(lambda: local.paths_of(tree.digest))
    for way in ways:
        with pytest.raises(ArtifactError, match="damaged") as caught:
            way()
        assert blob in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    assert local.put_bytes(b"hello", name="mended").digest == blob
    local.verify(tree.digest)


def test_a_damaged_manifest_is_found(local: ArtifactStore, tmp_path: Path) -> None:
    tree = local.put_tree(a_folder(tmp_path))
    damage(local.path(tree.digest), b'{"files": [], "version": 1}')
    with pytest.raises(ArtifactError, match="damaged"):
        local.files_of(tree.digest)


def test_what_is_missing_is_named(store: ArtifactStore) -> None:
    digest = digest_bytes(b"never stored")
    for act in (store.read_bytes, store.open, store.verify, store.files_of, store.path):
        with pytest.raises(ArtifactError, match="not in the store") as caught:
            act(digest)
        assert digest in str(caught.value)
    assert not store.exists(digest)
    assert store.delete(digest) is False


def test_a_file_is_no_folder_and_a_word_is_no_digest(store: ArtifactStore) -> None:
    artifact = store.put_bytes(b"plain", name="x")
    with pytest.raises(ArtifactError, match="not a folder"):
        store.files_of(artifact.digest)
    with pytest.raises(ArtifactError, match="names no artifact"):
        store.read_bytes("../../etc/passwd")
    with pytest.raises(ArtifactError, match="names no artifact"):
        digest_of("sha256:abc")


def test_a_manifest_cannot_lead_outside_its_folder(local: ArtifactStore, tmp_path: Path) -> None:
    blob = local.put_bytes(b"x", name="x")
    manifest = ('{"files":[{"digest":"' + blob.digest + '","path":"../evil","size":1}],"version":1}').encode()
    evil = local.put_bytes(manifest, name="evil")
    with pytest.raises(ArtifactError, match="outside the folder"):
        local.fetch_tree(evil.digest, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_what_cannot_be_stored_is_refused(local: ArtifactStore, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    with pytest.raises(ArtifactError, match=r"loop.*link to a folder"):
        local.put_tree(folder)
    (folder / "loop").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ArtifactError, match=r"pipe.*neither file nor folder"):
        local.put_tree(folder)
    with pytest.raises(ArtifactError, match=r"none.*not a folder"):
        local.put_tree(tmp_path / "none")
    with pytest.raises(ArtifactError, match="none"):
        local.put_file(tmp_path / "none")
    with pytest.raises(ArtifactError, match="cannot be opened"):
        ArtifactStore("no-such-protocol://x")


def test_a_folder_is_not_fetched_over_another(store: ArtifactStore, tmp_path: Path) -> None:
    tree = store.put_tree(a_folder(tmp_path))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    with pytest.raises(ArtifactError, match="is there already"):
        store.fetch_tree(tree.digest, taken)
    assert (taken / "mine").read_text() == "mine"


def test_a_store_behind_a_url_has_no_local_path(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    tree = store.put_tree(a_folder(tmp_path))
    with pytest.raises(ArtifactError, match="not a local file"):
        store.paths_of(tree.digest)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
def test_two_users_of_a_shared_folder_store_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import os, sys; from mlflow_core.artifacts import ArtifactStore as Store;"
        "os.umask(0); os.setgroups([]); os.setgid(1); os.setuid(int(sys.argv[2])); store = Store(sys.argv[1]);"
        "store.touch(store.put_bytes(b'shared', name='s').digest); print(store.location)"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:  # above tmp_path only its owner may pass
        Path(shared).chmod(0o777)
        for user in ("1", "2"):
            words = [sys.executable, "-c", code, f"{shared}/store", user]
            done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
            assert done.returncode == 0, done.stderr[-2000:]


FULL_DISK = """
import resource, sys
from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ArtifactError
store = ArtifactStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for act in (lambda: store.put_bytes(b"x" * 300_000, name="big"), lambda: store.put_file(sys.argv[2])):
    try:
        act()
    except ArtifactError as error:
        print("refused:", error)
print(store.put_bytes(b"small", name="small").digest)
"""


def test_a_write_that_the_system_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(b"y" * 300_000)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "store"), str(big)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.count("refused:") == 2, done.stderr
    assert done.stdout.count("cannot be stored: File too large") == 2
    assert len(files_in(tmp_path / "store")) == 1
    assert ArtifactStore(str(tmp_path / "store")).read_bytes(digest_bytes(b"small")) == b"small"


def write_many(location: str, start: float) -> list[str]:
    store = ArtifactStore(location)
    time.sleep(max(0.0, start - time.time()))
    return [store.put_bytes(bytes([n]) * 50_000, name="same").digest for n in range(20)]


def test_many_processes_may_write_the_same_contents_at_once(tmp_path: Path) -> None:
    location = str(tmp_path / "store")
    with get_context("spawn").Pool(4) as pool:
        answers = pool.starmap(write_many, [(location, time.time() + 1.0)] * 4)
    assert all(answer == answers[0] for answer in answers)
    store = ArtifactStore(location)
    assert sorted(store.list()) == sorted(answers[0])
    for digest in answers[0]:
        store.verify(digest)
    assert not files_in(tmp_path / "store" / "tmp")


def test_a_bucket_that_is_away_is_told_as_the_store_s_error_whatever_its_library_raises(
    tmp_path: Path,
) -> None:
    shelved.register()
    away = ArtifactStore(f"away://{tmp_path}/store")

    with pytest.raises(ArtifactError, match="EndpointError: could not connect to the endpoint"):
        away.put_bytes(b"x", name="x")
    with pytest.raises(ArtifactError, match="EndpointError: could not connect to the endpoint"):
        away.read_bytes(digest_bytes(b"x"))
