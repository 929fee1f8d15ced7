"""Schedules from their declaration to a finished run, through the real command; and what gc and a cluster say of a project."""

from __future__ import annotations

import contextlib
import json
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.cli.boundary import run
from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore
from tests.house.pages import blocks_of
from tests.workflow import retail

YAML = """project: shop
provider: local
registry: {registry_type: sql, path: sqlite:///data/registry.db}
offline_store: {type: dask}
online_store: {type: sqlite, path: data/online.db}
entity_key_serialization_version: 3
"""
SPECS = """import mlflow_core as ml

orders = ml.ParquetSource("orders", path="orders.parquet", event_time="placed")
spending = ml.FeatureView("spending", entity=ml.Entity("customer"), source=orders, features=["amount"])
"""
DAY = 86_400_000_000


def mlcore(*arguments: str, cwd: Path, code: int = 0) -> str:
    out, err = StringIO(), StringIO()
    with contextlib.chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        ended = run(arguments)
    assert ended == code, err.getvalue()
    return out.getvalue() + (err.getvalue() if code else "")


def answer(*arguments: str, cwd: Path) -> Any:
    return json.loads(mlcore("--json", *arguments, cwd=cwd))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Path:
    """A project with the pipeline of the page on schedules."""
    monkeypatch.setenv("PYTHONPATH", str(repository))
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (tmp_path / "mlcore.toml").write_text("")
    (repo / "feature_store.yaml").write_text(YAML)
    (repo / "specs.py").write_text(SPECS)
    times = pa.array([0], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"customer": ["a"], "amount": [1.0], "placed": times}), repo / "orders.parquet")
    page = (repository / "docs" / "schedules.md").read_text()
    (block,) = [one for one in blocks_of(page) if one.title is not None]
    file = tmp_path / block.title
    file.parent.mkdir()
    file.write_text(block.text)
    mlcore("apply", cwd=tmp_path)
    return tmp_path


def kept(shop: Path) -> MetadataStore:
    return MetadataStore(
        f"sqlite:///{shop}/.mlcore/metadata.db", SystemClock(), Principal("test"), project="shop"
    )


def test_a_pipeline_is_started_when_it_is_due_and_its_run_is_noted(shop: Path) -> None:
    with kept(shop) as store:
        assert store.get_schedule("nightly").cron == "30 2 * * mon-fri"
        store.pause_schedule("nightly")
        store.resume_schedule("nightly", next_us=SystemClock().now_us() - 1)

    ended = answer("scheduler", "--once", cwd=shop)

    (start,) = ended["started"]
    assert (start["schedule"], start["status"], start["error"], ended["failed"]) == ("nightly", 0, None, 0)
    with kept(shop) as store:
        assert store.get_run(start["run"]).state == "succeeded"
        schedule = store.get_schedule("nightly")
        assert (schedule.last_run, schedule.lease_owner) == (start["run"], None)
        assert (schedule.next_us or 0) > SystemClock().now_us()
    assert start["run"][:15] in mlcore("schedule", "list", cwd=shop)
    assert answer("scheduler", "--once", cwd=shop) == {"started": [], "failed": 0}


def test_schedules_are_listed_paused_resumed_and_told_ahead(shop: Path) -> None:
    (one,) = answer("schedule", "list", cwd=shop)
    assert (one["name"], one["paused"]) == ("nightly", False)

    mlcore("schedule", "pause", "nightly", "--why", "a test", cwd=shop)
    assert answer("schedule", "list", cwd=shop)[0]["paused"] is True
    assert "paused" in mlcore("schedule", "list", cwd=shop)
    mlcore("schedule", "resume", "nightly", cwd=shop)
    assert answer("schedule", "list", cwd=shop)[0]["paused"] is False

    ahead = answer("schedule", "next", "nightly", "--count", "6", cwd=shop)
    assert len(ahead) == 6
    assert {one["at"][11:] for one in ahead} == {"02:30:00Z"}
    assert {one["local"][:3] for one in ahead} == {"Mon", "Tue", "Wed", "Thu", "Fri"}
    text = mlcore("schedule", "next", cwd=shop)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert 'no schedule "nighly"' in mlcore("schedule", "pause", "nighly", cwd=shop, code=2)


def test_a_schedule_that_is_declared_no_more_is_taken_away_and_is_no_destruction(shop: Path) -> None:
    file = shop / "pipelines" / "nightly.py"
    text = file.read_text()
    file.write_text(text.replace(', schedule=ml.Schedule("30 2 * * mon-fri", zone="UTC")', ""))

    planned = json.loads(mlcore("--json", "plan", cwd=shop, code=4))
    assert planned["touches"] == {"pipelines": [], "models": []}
    assert planned["destroys"] == []
    assert len(answer("schedule", "list", cwd=shop)) == 1
    mlcore("apply", cwd=shop)

    assert answer("schedule", "list", cwd=shop) == []


def test_a_wrong_cron_line_is_told_where_it_is_declared(shop: Path) -> None:
    file = shop / "pipelines" / "nightly.py"
    text = file.read_text()
    for line, said in {
        "30 2 * *": "has 4 fields",
        "61 2 * * *": "is no cron line",
        "2-2 * * * *": "write 2 for 2-2",
        "H 2 * * *": "leaves a time to chance",
        "@often": "is none of @hourly",
    }.items():
        file.write_text(text.replace("30 2 * * mon-fri", line))
        told = mlcore("plan", cwd=shop, code=2)
        assert said in told, told
        assert "pipelines/nightly.py:" in told
    file.write_text(text.replace('zone="UTC"', 'zone="Europe/Berlyn"'))
    assert "is no time zone" in mlcore("plan", cwd=shop, code=2)


def test_gc_tells_what_would_go_and_removes_it_after_a_yes(shop: Path) -> None:
    store = ArtifactStore(str(shop / ".mlcore" / "artifacts"))
    lost, needed = store.put_bytes(b"lost").digest, store.put_bytes(b"needed").digest
    with kept(shop) as metadata:
        run_id = metadata.create_run("nightly").id
        metadata.log_artifact(run_id, name="x", uri=needed, digest=needed, size=6, media_type="x")
    long_ago = time.time() - 10 * 86_400
    for digest in (lost, needed):
        os.utime(store.path(digest), (long_ago, long_ago))

    assert "Nothing was removed. To do it: mlcore gc --yes" in mlcore("gc", cwd=shop)
    assert answer("gc", "--yes", "--dry-run", cwd=shop)["done"] is False
    assert store.exists(lost)
    found = answer("gc", "--yes", cwd=shop)

    assert (found["done"], found["artifacts"]["removed"], found["bytes"]) == (True, [lost], 4)
    assert (store.exists(lost), store.exists(needed)) == (False, True)


def test_a_wrong_retention_is_told_with_its_file_and_key(shop: Path) -> None:
    (shop / "mlcore.toml").write_text('[retention]\nartifacts = "soon"\nversions = 0\nlogs = "-1d"\n')

    told = mlcore("gc", cwd=shop, code=2)

    assert "mlcore.toml: retention.artifacts: 'soon'" in told
    assert "mlcore.toml: retention.versions: 0" in told
    assert "mlcore.toml: retention.logs: '-1d'" in told


def test_without_a_started_cluster_the_commands_say_how_to_start_one(shop: Path) -> None:
    told = mlcore("cluster", "status", cwd=shop, code=1)

    assert "no cluster was started" in told
    assert "mlcore cluster start" in told
    assert "There is no started cluster." in mlcore("cluster", "stop", cwd=shop)


def test_a_drift_starts_a_training_after_which_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    root = retail.shop(tmp_path / "shop")
    mlcore("apply", cwd=root)
    assert "no run of likely has succeeded yet" in mlcore("schedule", "look", "likely", cwd=root)
    mlcore("train", "likely", "--in-process", cwd=root)
    retail.visits(root, "other", day=30, days=27, seed=3, amount=58.0)
    retail.declare(root, since=30)  # what is trained next is as new as that
    mlcore("apply", cwd=root)

    seen = answer("schedule", "look", "likely", cwd=root)
    ended = answer("scheduler", "--once", cwd=root)

    assert "amount" in seen["why"]
    assert dict(seen["found"]["distances"])["amount"] > 0.2
    (start,) = ended["started"]
    assert (start["schedule"], start["status"], start["error"]) == ("likely", 0, None)
    after = answer("schedule", "look", "likely", cwd=root)
    assert after["why"] is None
    assert after["found"]["drifted"] is False
    listed = mlcore("schedule", "list", cwd=root)
    assert max(len(line) for line in listed.splitlines()) <= 80
    assert "drifted" in listed
    assert answer("schedule", "next", "likely", cwd=root)[0]["what"] == "look"


def test_what_waits_for_nothing_cannot_be_looked_at(shop: Path) -> None:
    assert 'schedule "nightly" waits for no condition' in mlcore(
        "schedule", "look", "nightly", cwd=shop, code=2
    )
