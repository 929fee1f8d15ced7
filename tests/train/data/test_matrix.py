"""The stored matrix: the right rows, found again, never taken for whole when it is not, cleaned."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.errors import TrainError
from mlflow_core.train.data import matrix as module
from mlflow_core.train.data.matrix import StoredMatrix, build_matrix, held
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.data.profile import merge
from mlflow_core.train.data.shuffle import BlockOrder, batches
from mlflow_core.train.data.survey import survey
from tests.train.data.numbered import ROW, numbered, rows_of
from tests.train.made import table, training_set, write

# ------------------------------------------------------------------------------------------------ the right rows


def test_each_row_is_there_once_with_its_label_and_further_columns(tmp_path: Path) -> None:
    data = training_set(tmp_path / "d")
    preprocessing, _, _ = merge(survey(data)["train"], data.features)

    train = build_matrix(data, "train", preprocessing, ("label", "amount"), tmp_path / "cache")
    validate = build_matrix(data, "validate", preprocessing, ("label", "amount"), tmp_path / "cache")

    for part, stored in [("train", train), ("validate", validate)]:
        rows = data.read(part)
        expected = np.column_stack(
            [
                preprocessing.matrix(rows),
                rows.column("label").to_numpy().astype(np.float32),
                rows.column("amount").to_numpy().astype(np.float32),
            ]
        )
        found = stored.open()
        assert (stored.rows, stored.width) == expected.shape
        assert stored.columns == (*preprocessing.columns, "label", "amount")
        assert stored.column("label") == preprocessing.width
        if part == "train":
            assert not np.array_equal(found, expected, equal_nan=True)
            order = [np.lexsort(np.nan_to_num(rows, nan=-1e9).T) for rows in (found, expected)]
            found, expected = found[order[0]], expected[order[1]]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("small_buckets")
@pytest.mark.parametrize("sizes", [(1,), (0, 5), (1000, 1, 0, 777), (350, 350, 350)])
def test_a_shuffled_matrix_holds_each_row_exactly_once(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    data = numbered(tmp_path, *sizes, groups=137)

    stored = build_matrix(data, "train", ROW, ("label", "weight"), tmp_path / "cache")

    assert sorted(rows_of(stored)) == list(range(sum(sizes)))
    rows = stored.open()
    np.testing.assert_array_equal(rows[:, 1], rows[:, 0] / 2)
    np.testing.assert_array_equal(rows[:, 3], rows[:, 0] % 7)


def test_a_part_that_is_not_for_training_keeps_its_order(tmp_path: Path) -> None:
    data = numbered(tmp_path, 500, 0, 701, groups=100, part="test")

    assert rows_of(build_matrix(data, "test", ROW, (), tmp_path / "cache")) == list(range(1201))


def test_a_part_without_rows_is_a_matrix_without_rows(tmp_path: Path) -> None:
    for part in ("train", "validate"):
        data = numbered(tmp_path, 0, 0, part=part)

        stored = build_matrix(data, part, ROW, ("label",), tmp_path / "cache")

        assert stored.open().shape == (0, 3)
        assert list(batches(stored.open(), BlockOrder(0, stored.block, 0, 0), 10)) == []
        assert build_matrix(data, part, ROW, ("label",), tmp_path / "cache") == stored


def test_sequences_are_stored_as_the_preprocessing_makes_them(tmp_path: Path) -> None:
    def legs(rows: int, seed: int) -> pa.Table:
        lengths = np.random.default_rng(seed).integers(0, 5, rows)
        lists = [[float(n) for n in range(length)] or None for length in lengths]
        return table(rows, seed).append_column("legs", pa.array(lists))

    parts = {"train": [legs(200, 1), legs(100, 2)], "validate": [legs(80, 3)]}
    data = write(tmp_path / "d", parts, features=("delay", "legs"), row_group_size=64)
    preprocessing, _, _ = merge(survey(data)["train"], data.features, sequences=True)

    stored = build_matrix(data, "validate", preprocessing, ("label",), tmp_path / "cache")

    assert stored.columns == ("delay", "legs[0]", "legs[1]", "legs[2]", "legs[3]", "legs.length", "label")
    np.testing.assert_array_equal(stored.open()[:, :-1], preprocessing.matrix(data.read("validate")))


# ------------------------------------------------------------------------------------------------ found again


def test_a_matrix_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbered(tmp_path, 300)
    first = build_matrix(data, "train", ROW, ("label",), tmp_path / "cache")
    monkeypatch.setattr(module, "spread", _not_called)

    assert build_matrix(data, "train", ROW, ("label",), tmp_path / "cache") == first


def _not_called(*_: object) -> list[object]:
    raise AssertionError("it was built again")


def test_whatever_changes_its_content_gives_another_matrix(tmp_path: Path) -> None:
    data, cache = numbered(tmp_path, 300), tmp_path / "cache"
    other = Preprocessing((ROW.features[1], ROW.features[0]))
    names = [
        build_matrix(data, "train", ROW, ("label",), cache).name,
        build_matrix(data, "train", ROW, ("weight",), cache).name,
        build_matrix(data, "train", ROW, ("label", "weight"), cache).name,
        build_matrix(data, "train", other, ("label",), cache).name,
        build_matrix(data, "train", ROW, ("label",), cache, seed=5).name,
    ]
    numbered(tmp_path, 300, first=1)
    names.append(build_matrix(data, "train", ROW, ("label",), cache).name)

    assert len(set(names)) == 6
    assert min(rows_of(build_matrix(data, "train", ROW, ("label",), cache))) == 1


@pytest.mark.parametrize("harm", ["flip", "truncate", "extend", "zero", "remove", "facts", "foreign"])
def test_a_damaged_matrix_is_built_again(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    data, cache = numbered(tmp_path, 40_000), tmp_path / "cache"
    whole = build_matrix(data, "train", ROW, ("label",), cache)
    content = whole.path.read_bytes()
    at = len(content) // 2 + 20_001
    facts = whole.path.parent / "entry.json"
    match harm:
        case "flip":  # one bit, where the cache's own samples do not look
            whole.path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        case "truncate":
            whole.path.write_bytes(content[:-8])
        case "extend":
            whole.path.write_bytes(content + b"\0" * 12)
        case "zero":
            whole.path.write_bytes(content[:at] + bytes(4096) + content[at + 4096 :])
        case "remove":
            whole.path.unlink()
        case "facts":
            facts.write_text(json.dumps(json.loads(facts.read_text()) | {"ranges": "?"}))
        case "foreign":
            whole.path.write_bytes(b"PAR1" * 1000)

    again = build_matrix(data, "train", ROW, ("label",), cache)

    assert again == whole
    assert again.path.read_bytes() == content
    assert len([one for one in cache.iterdir() if one.name.startswith("matrix-")]) == 1
    assert ("is damaged, and is built again" in caplog.text) == (harm in ("flip", "zero", "facts"))


def test_a_matrix_that_goes_while_it_is_used_is_told_when_it_is_opened(tmp_path: Path) -> None:
    stored = build_matrix(numbered(tmp_path, 100), "train", ROW, (), tmp_path / "cache")

    with stored.path.open("ab") as file:
        file.truncate(8)
    with pytest.raises(TrainError, match=r"the matrix has 8 bytes\. Expected 800"):
        stored.open()
    stored.path.unlink()
    with pytest.raises(TrainError, match=r"matrix\.f32: the matrix cannot be read: No such file"):
        stored.open()


def test_many_builders_at_once_make_one_matrix(tmp_path: Path) -> None:
    data, cache = numbered(tmp_path, 5000, groups=500), tmp_path / "cache"
    found: list[StoredMatrix] = []
    barrier = threading.Barrier(4)

    def build() -> None:
        barrier.wait()
        found.append(build_matrix(data, "train", ROW, ("label",), cache))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(found) == 4
    assert len(set(found)) == 1
    assert sorted(rows_of(found[0])) == list(range(5000))
    assert [one.name for one in cache.iterdir()] == [found[0].name]


BUILDER = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from mlflow_core.train.data import matrix, scatter
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.data.training_set import TrainingData
ROW = Preprocessing((Feature("row", "number", "int64"), Feature("half", "number", "double")))
real = scatter.{stage}
def dying(task):
    if task.number == {number}:
        print("dying", flush=True)
        signal.pause()
    return real(task)
matrix.{stage} = dying
data = TrainingData({{"train": tuple(Path(one) for one in sys.argv[2:])}}, "label", ("row", "half"))
matrix.build_matrix(data, "train", ROW, ("label",), Path(sys.argv[1]))
"""


@pytest.mark.chaos
@pytest.mark.parametrize(("stage", "number"), [("write_group", 0), ("write_group", 7), ("write_bucket", 0)])
def test_a_killed_builder_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, stage: str, number: int
) -> None:
    data, cache = numbered(tmp_path, 4000, groups=500), tmp_path / "cache"
    program = BUILDER.format(stage=stage, number=number)
    builder = subprocess.Popen(
        [sys.executable, "-c", program, str(cache), *map(str, data.files("train"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "dying\n"
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    builder.stdout.close()
    left = [one.name for one in cache.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".draft.")
    assert Cache(cache).entries() == ()

    stored = build_matrix(data, "train", ROW, ("label",), cache)
    Cache(cache).trim()

    assert sorted(rows_of(stored)) == list(range(4000))
    assert sorted(one.name for one in cache.iterdir()) == ["lock", stored.name]


# ------------------------------------------------------------------------------------------------ the cache


def test_the_cache_lists_matrices_and_cleans_the_one_used_longest_ago(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    old, new = (
        build_matrix(numbered(tmp_path / name, 1000), "train", ROW, ("label",), cache.folder)
        for name in ("old", "new")
    )
    os.utime(old.path.parent / "entry.json", (1000, 1000))

    [entry, _] = cache.entries()
    assert entry.name == old.name
    assert entry.bytes == 1000 * 3 * 4
    assert entry.facts["source"] == "old"
    assert (entry.facts["kind"], entry.facts["part"], entry.facts["rows"]) == ("matrix", "train", 1000)
    assert entry.facts["columns"] == ["row", "half", "label"]

    removed = cache.trim(to=entry.bytes)

    assert [one.name for one in removed] == [old.name]
    assert new.path.exists()


def test_a_matrix_that_is_held_is_not_cleaned(tmp_path: Path) -> None:
    data, cache = numbered(tmp_path, 100), Cache(tmp_path / "cache")
    train = build_matrix(data, "train", ROW, (), cache.folder)
    other = build_matrix(data, "train", ROW, ("label",), cache.folder)

    with held(train):
        cache.trim(to=0)
        assert train.path.exists()
        assert not other.path.exists()
    cache.trim(to=0)

    assert not train.path.exists()


def test_using_a_matrix_again_makes_it_the_newest(tmp_path: Path) -> None:
    data, cache = numbered(tmp_path, 100), Cache(tmp_path / "cache")
    first = build_matrix(data, "train", ROW, (), cache.folder)
    second = build_matrix(data, "train", ROW, ("label",), cache.folder)
    for number, one in enumerate((first, second)):
        os.utime(one.path.parent / "entry.json", (1000 + number, 1000 + number))

    build_matrix(data, "train", ROW, (), cache.folder)

    assert [one.name for one in cache.entries()] == [second.name, first.name]


def test_a_training_part_without_a_seed_keeps_its_order_and_is_another_entry(tmp_path: Path) -> None:
    data = numbered(tmp_path, 900, 1500, groups=400)

    shuffled = build_matrix(data, "train", ROW, ("label",), tmp_path / "cache")
    stored = build_matrix(data, "train", ROW, ("label",), tmp_path / "cache", seed=None)

    assert rows_of(stored) == list(range(2400)) != rows_of(shuffled)
    assert stored.name != shuffled.name


def test_runs_of_rows_are_read_without_a_map_and_only_of_what_is_whole(tmp_path: Path) -> None:
    data = numbered(tmp_path, 1000, part="test")
    stored = build_matrix(data, "test", ROW, ("label",), tmp_path / "cache")

    np.testing.assert_array_equal(stored.read([0], 1000), stored.open())
    assert stored.read([990, 3, 3], 2)[:, 0].tolist() == [990, 991, 3, 4, 3, 4]
    assert stored.read([], 2).shape == (0, 3)

    os.truncate(stored.path, stored.rows * stored.width * 4 - 1)
    with pytest.raises(TrainError, match="the matrix has 11,999 bytes"):
        stored.read([0], 1)
    stored.path.unlink()
    with pytest.raises(TrainError, match=r"matrix\.f32: the matrix cannot be read: No such file"):
        stored.read([0], 1)


def test_a_matrix_that_goes_while_it_is_read_is_an_error_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = build_matrix(numbered(tmp_path, 100, part="test"), "test", ROW, ("label",), tmp_path / "cache")

    def stale(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", stale)
        with pytest.raises(TrainError, match=r"cannot be read: Stale file handle.*it is built anew"):
            stored.read([0], 1)


def test_a_host_that_sees_another_matrix_or_none_is_told(tmp_path: Path) -> None:
    stored = build_matrix(numbered(tmp_path, 100, part="test"), "test", ROW, ("label",), tmp_path / "cache")

    stored.check()
    with pytest.raises(TrainError, match=r"is not the one that was built.*share with the caller"):
        replace(stored, digest="another").check()
    with pytest.raises(TrainError, match="there is no such matrix here"):
        replace(stored, path=tmp_path / "elsewhere" / "matrix.f32").check()
