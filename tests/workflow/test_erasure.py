"""An erasure through datasets, layouts and sources: what is removed, what stays, and what is told."""

from __future__ import annotations

import pandas as pd
import pyarrow.parquet as pq
import pytest

import mlflow_core as ml
from mlflow_core.engine.buckets.steps import layout_spec
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.layouts.layout import write_layout
from mlflow_core.engine.views.snapshot import snapshot_read
from mlflow_core.errors import ArtifactError, SourceError, StoreError
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.sources import open_source
from mlflow_core.telemetry import SilentProgress
from mlflow_core.workflow.dataset import open_dataset
from mlflow_core.workflow.erasure import Places, RemovedLayouts, erase, rows_left
from mlflow_core.workflow.pipeline_dataset import build_for_pipeline
from mlflow_core.workflow.training import run_pipeline

LATER = 1_900_000_000_000_000
READ_BEFORE = 1_706_745_600_000_000  # 2024-02-01


def places(workspace, *caches: Cache) -> Places:
    return Places(workspace.metadata, (), None, workspace.artifacts, caches)


def machines_in(stored) -> dict[str, int]:
    counts: dict[str, int] = {}
    for files in stored.data.shards.values():
        for file in files:
            for name in pq.read_table(file, columns=["machine"])["machine"].to_pylist():
                counts[name] = counts.get(name, 0) + 1
    return counts


def test_a_dataset_with_rows_of_the_key_is_removed_and_its_run_keeps_its_record(workspace):
    trained = run_pipeline(workspace, "breakdown")
    before = machines_in(trained.dataset)
    files = workspace.artifacts.files_of(trained.dataset.artifact.digest)

    erased = erase(places(workspace), {"machine": "m3"}, now_us=LATER)

    [removed] = erased.datasets
    assert (removed.rows, removed.runs) == (before["m3"], (trained.run_id,))
    record = workspace.metadata.get_dataset(removed.id)
    assert record.removed_us is not None
    assert record.removed_why == f"it held rows of an erased entity (machine), erasure {erased.erasure.id}"
    assert "m3" not in record.removed_why
    assert not any(
        workspace.artifacts.exists(file.digest) for file in files if file.path.endswith(".parquet")
    )
    with pytest.raises(ArtifactError, match="not in the store"):
        open_dataset(trained.dataset.artifact, workspace.artifacts)
    run = workspace.metadata.get_run(trained.run_id)
    assert (run.state, run.dataset_id) == ("succeeded", removed.id)
    version = workspace.metadata.resolve_model("breakdown@candidate")
    assert workspace.artifacts.exists(version.artifact_digest)

    built, again = build_for_pipeline(workspace, workspace.pipeline("breakdown"))
    assert again.id != removed.id
    assert machines_in(built) == {name: count for name, count in before.items() if name != "m3"}


def test_a_dataset_without_the_key_stays_and_nothing_is_removed_twice(workspace):
    spec = workspace.pipeline("breakdown")
    erase(places(workspace), {"machine": "m3"}, now_us=LATER)
    stored, record = build_for_pipeline(workspace, spec)

    again = erase(places(workspace), {"machine": "m3"}, now_us=LATER + 1)
    nobody = erase(places(workspace), {"machine": "never seen"}, now_us=LATER)

    assert again.datasets == nobody.datasets == ()
    assert again.erasure.id != nobody.erasure.id
    assert workspace.metadata.get_dataset(record.id).removed_us is None
    assert open_dataset(stored.artifact, workspace.artifacts).data.shards["train"]
    assert workspace.metadata.audit_verify().ok


def test_a_store_that_is_away_and_a_damaged_dataset_keep_the_entity_nowhere_else(workspace, tmp_path):
    spec = workspace.pipeline("breakdown")
    stored, record = build_for_pipeline(workspace, spec)
    (tmp_path / "damaged").mkdir()
    pq.write_table(pq.read_table(stored.data.shards["train"][0]).slice(1), tmp_path / "damaged" / "0.parquet")
    damaged = workspace.artifacts.put_tree(tmp_path / "damaged")
    [file] = workspace.artifacts.files_of(damaged.digest)
    path = workspace.artifacts.path(file.digest)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    other = workspace.metadata.register_dataset(
        "damaged",
        "sha256:1",
        schema={"machine": "string"},
        rows={"train": 1},
        clock="served",
        artifact_digest=damaged.digest,
    )
    (tmp_path / "away").write_text("no database")
    backend = SqliteBackend(tmp_path / "away", "works")
    views = (OnlineTable("readings", ("machine",)),)
    where = Places(workspace.metadata, views, backend, workspace.artifacts)

    with pytest.raises(StoreError):
        erase(where, {"machine": "m3"}, now_us=LATER)
    with pytest.raises(ArtifactError):
        erase(places(workspace), {"machine": "m3"}, now_us=LATER)

    assert workspace.metadata.get_dataset(record.id).removed_us is not None
    assert workspace.metadata.get_dataset(other.id).removed_us is None
    assert not workspace.artifacts.exists(stored.artifact.digest)
    assert [one.columns for one in workspace.metadata.list_erasures()] == [("machine",)]


def test_a_dataset_built_while_somebody_is_erased_is_not_kept(workspace):
    spec = workspace.pipeline("breakdown")

    class Erasing(SilentProgress):
        """Somebody else erases while rows are read."""

        def stage(self, title, **kwargs):
            if title == "storing the dataset":
                erase(places(workspace), {"machine": "m3"}, now_us=LATER)
            return super().stage(title, **kwargs)

    with pytest.raises(SourceError, match="erased while the dataset was built"):
        build_for_pipeline(workspace, spec, progress=Erasing())

    [record] = workspace.metadata.list_datasets()
    assert record.removed_why == "it held rows of an entity that was erased while it was built"
    assert not workspace.artifacts.exists(record.artifact_digest)
    built, _ = build_for_pipeline(workspace, spec)
    assert "m3" not in machines_in(built)


def test_files_that_another_dataset_shares_stay_with_it(workspace, tmp_path):
    stored, _ = build_for_pipeline(workspace, workspace.pipeline("breakdown"))
    (tmp_path / "other").mkdir()
    shared = next(iter(stored.data.shards["train"]))
    (tmp_path / "other" / "copy.parquet").write_bytes(shared.read_bytes())
    other = workspace.artifacts.put_tree(tmp_path / "other")

    assert workspace.artifacts.delete_tree(stored.artifact.digest)

    workspace.artifacts.verify(other.digest)
    assert not workspace.artifacts.exists(stored.artifact.digest)
    assert not workspace.artifacts.delete_tree(stored.artifact.digest)
    assert next(iter(workspace.artifacts.list())) == other.digest


def laid_out(workspace, cache: Cache) -> str:
    """Lay the readings out as a cluster would; the entry's name."""
    [view] = workspace.project.views.values()
    listing = open_source(view.source, workspace.base)
    spec = layout_spec(listing, [snapshot_read(view)])
    [part] = listing.parts()
    cache.folder.mkdir(exist_ok=True)
    write_layout(cache.folder, part, spec)
    return spec.entry_name(part)


def test_layouts_sorted_by_the_key_are_removed_with_its_bytes(workspace, tmp_path):
    cache, missing = Cache(tmp_path / "layouts"), Cache(tmp_path / "nowhere")
    laid_out(workspace, cache)
    assert any(b"m3" in file.read_bytes() for file in cache.folder.rglob("*.arrow"))

    other = erase(places(workspace, cache), {"elsewhere": "m3"}, now_us=LATER)
    erased = erase(places(workspace, cache, missing), {"machine": "m3"}, now_us=LATER)

    assert other.layouts == RemovedLayouts()
    assert (erased.layouts.entries, erased.layouts.in_use) == (1, 0)
    assert erased.layouts.bytes > 0
    assert list(cache.folder.rglob("*.arrow")) == []
    assert not missing.folder.exists()


def test_a_layout_in_use_is_told_and_is_not_found_again(workspace, tmp_path):
    cache = Cache(tmp_path / "layouts")
    name = laid_out(workspace, cache)
    with cache.leased([name]):
        erased = erase(places(workspace, cache), {"machine": "m3"}, now_us=LATER)

    assert (erased.layouts.entries, erased.layouts.in_use) == (0, 1)
    [view] = workspace.project.views.values()
    listing = open_source(view.source, workspace.base)
    [part] = listing.parts()
    without = layout_spec(listing, [snapshot_read(view).without(workspace.erasures)])
    assert without.entry_name(part) != name


def test_a_notebook_does_not_see_who_was_erased(machines, workspace):
    rows = {"machine": ["m3", "m4"], "event_timestamp": ["2024-02-10T00:00Z"] * 2}
    rows["event_timestamp"] = pd.to_datetime(rows["event_timestamp"])
    before = ml.load(machines, progress=SilentProgress()).features("machine_health", rows)
    assert before["temperature"].notna().all()

    erase(places(workspace), {"machine": "m3"}, now_us=LATER)

    after = ml.load(machines, progress=SilentProgress()).features("machine_health", rows)
    assert after["temperature"].isna().tolist() == [True, False]
    assert after["temperature"][1] == before["temperature"][1]


def test_only_events_up_to_the_erasure_are_told_to_be_left_in_sources(workspace):
    views = workspace.project.views.values()
    path = workspace.project.repo / "data" / "readings.parquet"
    rows = [row for row in pq.read_table(path).to_pylist() if row["machine"] == "m3"]
    early = [row for row in rows if row["read_at"].timestamp() * 1e6 <= READ_BEFORE]

    [left] = rows_left(views, {"machine": "m3"}, READ_BEFORE, base=workspace.base)

    assert 0 < left.rows == len(early) < len(rows)
    assert [part.rpartition("/")[2] for part in left.parts] == ["readings.parquet"]
    assert list(rows_left(views, {"machine": "m33"}, LATER, base=workspace.base)) == []
    assert list(rows_left(views, {"elsewhere": 1}, LATER, base=workspace.base)) == []
    path.write_bytes(b"no parquet")
    [broken] = rows_left(views, {"machine": "m3"}, LATER, base=workspace.base)
    assert broken.rows is None
    assert "readings" in broken.failure
