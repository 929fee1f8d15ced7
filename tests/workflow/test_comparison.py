"""Two runs, and two training sets, side by side: what differs is told, what is the same is not, and files for others."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import FixedClock, Principal
from mlflow_core.errors import UnknownNameError, UsageError
from mlflow_core.metadata import MetadataStore
from mlflow_core.workflow.comparison import compare_runs, compared
from mlflow_core.workflow.data_difference import compare_datasets, stored_dataset
from mlflow_core.workflow.data_export import export_dataset

SCHEMA = pa.schema(
    [("machine", pa.string()), ("heat", pa.float64()), ("broke", pa.bool_()), ("last", pa.list_(pa.int64()))]
)


@pytest.fixture
def store(tmp_path):
    url = f"sqlite:///{tmp_path / 'metadata.db'}"
    with MetadataStore(url, FixedClock(1_000_000), Principal("ops", "option"), project="machines") as opened:
        yield opened


@pytest.fixture
def artifacts(tmp_path):
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
def keep(store, artifacts, tmp_path):
    """Keep a training set: part -> rows (machine, heat, broke, last)."""
    made = []

    def kept(parts, *, files=None, view="sha256:v1"):
        folder = tmp_path / f"draft{len(made)}"
        folder.mkdir()
        shards = {}
        for part, rows in parts.items():
            table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)
            pq.write_table(table, folder / f"{part}.parquet")
            shards[part] = [f"{part}.parquet"]
        manifest = {
            "shards": shards, "label": {"column": "broke"}, "features": ["heat"], "request": [],
            "time_column": "at", "schema": {field.name: str(field.type) for field in SCHEMA},
            "fingerprints": {"view heat": view}, "clock": "served", "checks": [],
        }  # fmt: skip
        (folder / "dataset.json").write_text(json.dumps(manifest))
        artifact = artifacts.put_tree(folder)
        made.append(artifact)
        return store.register_dataset(
            "breakdown", artifact.digest, schema=manifest["schema"],
            rows={part: len(rows) for part, rows in parts.items()}, clock="served", split={"train_until": 5},
            source_snapshot={"readings": f"sha256:{len(made)}"}, spec_fingerprint="sha256:s",
            artifact_digest=artifact.digest, uri=artifact.uri,
            report={"left_out": {"label_null": 2}, "files": {"readings": files or {"a.parquet": "10 bytes 1"}}},
        )  # fmt: skip

    return kept


ROWS = [("m1", 1.0, True, [1]), ("m2", 3.0, False, None)]


def a_run(store, dataset, **params):
    run = store.create_run("breakdown", seed=7, pipeline_fingerprint="sha256:p", environment={"numpy": "2.4"})
    store.use_dataset(run.id, dataset.id)
    store.log_params(run.id, params)
    store.log_metrics(run.id, {"test.auc": 0.5 + params["depth"] / 100})
    return store.finish_run(run.id, "succeeded")


def test_only_what_differs_is_different_and_all_of_it(store, artifacts, keep):
    first, second = keep({"train": ROWS}), keep({"train": [*ROWS, *ROWS]}, view="sha256:v2")
    a = a_run(store, first, depth=3, rate=0.1)
    b = a_run(store, second, depth=4, rate=0.1, seed=1)

    found = compare_runs(store, artifacts, a.id, b.id)

    told = {(row.part, row.name): (row.a, row.b, row.only) for row in found.different}
    assert told == {
        ("params", "depth"): (3, 4, None),
        ("params", "seed"): (None, 1, "b"),
        ("metrics", "test.auc"): (0.53, 0.54, None),
        ("data", "content"): (first.content_hash, second.content_hash, None),
        ("data", "rows train"): (2, 4, None),
        ("data", "source readings"): ("sha256:1", "sha256:2", None),
        ("features", "view heat"): ("sha256:v1", "sha256:v2", None),
    }
    same = {(row.part, row.name) for row in found.rows if row.same}
    assert {("params", "rate"), ("run", "seed"), ("environment", "numpy"), ("data", "clock")} <= same


def test_a_run_compared_with_itself_is_the_same(store, artifacts, keep):
    a = a_run(store, keep({"train": ROWS}), depth=3)

    found = compare_runs(store, artifacts, a.id, "latest")

    assert (found.different, found.notes) == ((), ())
    assert len(found.rows) > 10


def test_a_run_that_has_no_dataset_yet_has_no_facts_of_one(store, artifacts, keep):
    a = a_run(store, keep({"train": ROWS}), depth=3)
    b = store.create_run("breakdown")

    found = compare_runs(store, artifacts, a.id, b.id)

    assert {row.only for row in found.different if row.part in ("data", "features", "params")} == {"a"}


def test_a_dataset_whose_rows_were_removed_is_noted(store, artifacts, keep):
    a = a_run(store, keep({"train": ROWS}), depth=3)
    b = a_run(store, keep({"train": ROWS[:1]}), depth=3)
    store.remove_dataset(store.get_run(a.id).dataset_id, "somebody was erased")

    found = compare_runs(store, artifacts, a.id, b.id)

    assert found.notes == ("dataset 1 is not at hand: its features' fingerprints are not told",)


def test_an_unknown_run_is_an_error(store, artifacts):
    with pytest.raises(UnknownNameError):
        compare_runs(store, artifacts, "no-such-run", "latest")


def test_none_that_is_recorded_differs_from_nothing_recorded():
    (row,) = compared("params", {"seed": None}, {})

    assert (row.same, row.only) == (False, "a")


def test_columns_whose_nulls_or_mean_moved_are_told_the_farthest_first(keep, artifacts):
    before = keep({"train": [("m1", 1.0, True, None), ("m2", 3.0, False, None)], "test": ROWS})
    after = keep({"train": [("m1", 5.0, True, None), (None, 7.0, False, None)], "test": ROWS})

    found = compare_datasets(before, after, artifacts)

    assert [(one.part, one.column) for one in found.moved] == [("train", "heat"), ("train", "machine")]
    heat, machine = found.moved
    assert (heat.a.mean, heat.b.mean, heat.shift) == (2.0, 6.0, pytest.approx(4 / 2**0.5))
    assert (machine.a.null_rate, machine.b.null_rate, machine.shift) == (0.0, 0.5, None)
    broke = next(one for one in found.columns if (one.part, one.column) == ("train", "broke"))
    assert (broke.moved, broke.a.mean) == (False, 0.5)


def test_a_part_of_one_only_has_no_other_side(keep, artifacts):
    found = compare_datasets(keep({"train": ROWS}), keep({"train": ROWS, "test": ROWS}), artifacts)

    assert {(one.part, one.a) for one in found.moved} == {("test", None)}


def test_which_files_of_a_source_changed_is_told(keep, artifacts):
    before = keep({"train": ROWS}, files={"a.parquet": "10 bytes 1", "b.parquet": "5 bytes 1"})
    after = keep({"train": ROWS[:1]}, files={"a.parquet": "12 bytes 2", "c.parquet": "5 bytes 1"})

    facts = {one.name: one.only for one in compare_datasets(before, after, artifacts).facts if not one.same}

    assert {name: only for name, only in facts.items() if name.startswith("file ")} == {
        "file readings: a.parquet": None,
        "file readings: b.parquet": "a",
        "file readings: c.parquet": "b",
    }


def test_numbers_that_are_none_do_not_hide_the_mean(keep, artifacts):
    odd = [("m1", float("nan"), True, None), ("m2", float("inf"), True, None), ("m3", 1e200, True, None)]
    found = compare_datasets(keep({"train": [*ROWS, *odd]}), keep({"train": ROWS}), artifacts)

    heat = next(one for one in found.columns if one.column == "heat")
    assert (heat.a.mean, heat.b.mean) == (2.0, 2.0)


def test_equal_content_is_not_read(keep):
    one = keep({"train": ROWS})

    found = compare_datasets(one, replace(one, id=2), ArtifactStore("memory://nothing-is-here"))

    assert found.columns == ()


def test_a_folder_gets_a_file_for_each_part(keep, artifacts, tmp_path):
    stored = stored_dataset(keep({"train": ROWS, "test": ROWS[:1]}), artifacts)

    done = export_dataset(stored, tmp_path / "out")

    assert done.files == {
        str(tmp_path / "out" / "train.parquet"): 2,
        str(tmp_path / "out" / "test.parquet"): 1,
    }
    assert pq.read_table(tmp_path / "out" / "train.parquet").to_pylist() == [
        dict(zip(SCHEMA.names, row, strict=True)) for row in ROWS
    ]


def test_one_file_has_all_parts_told_apart(keep, artifacts, tmp_path):
    stored = stored_dataset(keep({"train": ROWS, "test": ROWS[:1]}), artifacts)

    done = export_dataset(stored, tmp_path / "deep" / "all.parquet")

    table = pq.read_table(tmp_path / "deep" / "all.parquet")
    assert (done.files, table.schema.names) == (
        {str(tmp_path / "deep" / "all.parquet"): 3},
        ["part", *SCHEMA.names],
    )
    assert table["part"].to_pylist() == ["train", "train", "test"]


def test_one_file_is_refused_where_a_column_is_called_as_the_one_that_tells_parts_apart(
    keep, artifacts, tmp_path, monkeypatch
):
    renamed = [field.with_name("part") if field.name == "machine" else field for field in SCHEMA]
    monkeypatch.setitem(globals(), "SCHEMA", pa.schema(renamed))
    stored = stored_dataset(keep({"train": ROWS}), artifacts)

    with pytest.raises(UsageError, match='has a column "part" of its own'):
        export_dataset(stored, tmp_path / "all.parquet")
    assert list(export_dataset(stored, tmp_path / "out").files.values()) == [2]


def test_csv_is_refused_for_lists_and_leaves_nothing(keep, artifacts, tmp_path):
    stored = stored_dataset(keep({"train": ROWS}), artifacts)

    with pytest.raises(UsageError, match='CSV cannot hold "last", which is list'):
        export_dataset(stored, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_csv_reads_back_as_it_was(keep, artifacts, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SCHEMA", pa.schema([field for field in SCHEMA if field.name != "last"]))
    stored = stored_dataset(keep({"train": [row[:3] for row in ROWS]}), artifacts)

    export_dataset(stored, tmp_path / "out", form="csv")

    assert pc.read_csv(tmp_path / "out" / "train.csv").to_pylist() == [
        {"machine": "m1", "heat": 1.0, "broke": True},
        {"machine": "m2", "heat": 3.0, "broke": False},
    ]


@pytest.mark.parametrize("name", ["out.csv", "out"])
def test_nothing_is_written_over(name, keep, artifacts, tmp_path):
    stored = stored_dataset(keep({"train": ROWS}), artifacts)
    (tmp_path / name).write_text("mine")

    with pytest.raises(UsageError, match="is there already"):
        export_dataset(stored, tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"


def test_a_format_that_contradicts_the_file_is_refused(keep, artifacts, tmp_path):
    stored = stored_dataset(keep({"train": ROWS}), artifacts)

    with pytest.raises(UsageError, match="ends in"):
        export_dataset(stored, tmp_path / "out.csv", form="parquet")
    with pytest.raises(UsageError, match="is no format"):
        export_dataset(stored, tmp_path / "out", form="orc")


def test_a_dataset_without_rows_is_told_as_such(store, artifacts, keep):
    gone = store.remove_dataset(keep({"train": ROWS}).id, "somebody was erased")

    with pytest.raises(UsageError, match="are not there: somebody was erased"):
        stored_dataset(gone, artifacts)
