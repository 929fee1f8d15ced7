"""A tracking server that all tests of this folder share, each with an experiment of its own, and a project to copy from."""

from __future__ import annotations

import math
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import Principal, SystemClock, load_settings
from mlflow_core.metadata import MetadataStore, Metric, Run
from mlflow_core.workflow.mirror.mirroring import Stores
from mlflow_core.workflow.mirror.process import Asked, Server, asking
from tests.servers.mlflow import Tracking, tracking_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what MLflow and its libraries say while they load is not ours
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch:  # Feast's plug-in does nothing here, and loads for seconds
        patch.setitem(sys.modules, "feast", None)
        import mlflow.tracking.request_header.registry

VALUES = (0.1 + 0.2, -1.5, 5e-324, math.nan, 1.7976931348623157e308, 2.0**53 + 2)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    with tracking_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="session")
def asked(server: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """MLflow's process for that server, which takes seconds to start, and ends if it loads what it must not."""
    folder, path = tmp_path_factory.mktemp("asked"), tmp_path_factory.mktemp("path")
    (folder / "json.py").write_text("raise SystemExit('its folder is none to import from')")
    (path / "feast.py").write_text("raise SystemExit('Feast takes seconds to load')")
    with asking(
        Server(server.url, folder=folder, environ={"PYTHONPATH": str(path)}, within_s=300)
    ) as process:
        yield process


@pytest.fixture
def mlflow(server: Tracking, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the server, in this process."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return MlflowClient(server.url)


@pytest.fixture
def experiment() -> str:
    """The name of an experiment that no other test uses."""
    return f"parcels-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def open_stores(tmp_path: Path) -> Iterator[Callable[..., Stores]]:
    """Open the project with some settings."""
    opened: list[MetadataStore] = []
    root = tmp_path / "parcels"
    root.mkdir()

    def open_with(**mlflow: Any) -> Stores:
        given = {f"mlflow.{name}": str(value) for name, value in mlflow.items()}
        settings = load_settings(root, overrides=given | {"project.name": "parcels"}, environ={})
        principal = Principal("ann", "token")
        store = MetadataStore(settings.metadata_url(), SystemClock(), principal, project="parcels")
        opened.append(store)
        return Stores(settings, store, ArtifactStore(settings.artifact_location()))

    yield open_with
    for store in opened:
        store.close()


@pytest.fixture
def stores(open_stores: Callable[..., Stores], server: Tracking, experiment: str) -> Stores:
    """The project, whose runs are copied to the server."""
    return open_stores(tracking_uri=server.url, experiment=experiment, within="5m")


def a_run(stores: Stores, *, state: str = "succeeded", seed: int = 1) -> Run:
    """A run with params, metrics of every kind, pages and a file of rows."""
    metadata = stores.metadata
    run = metadata.create_run("late", seed=seed, code={"commit": "c0ffee"}, tags={"options": {"fresh": True}})
    metadata.log_params(
        run.id, {"rounds": 8, "rate": 0.1, "method": "hist", "metrics": ["auc"], "none": None}
    )
    metadata.log_metrics(run.id, [Metric("loss", value, step) for step, value in enumerate(VALUES)])
    metadata.log_metrics(run.id, [Metric("test.auc", 0.75, 0, 0.7, 0.8)])
    for name, text, kind in (
        ("report.html", "<p>good</p>", "text/html"),
        ("model_card.md", "# late", "text/markdown"),
        ("rows.parquet", "secret rows", "application/octet-stream"),
    ):
        kept = stores.artifacts.put_bytes(text.encode(), name=name, media_type=kind)
        metadata.log_artifact(run.id, name, kept.uri, kept.digest, kept.size, media_type=kind)
    return metadata.finish_run(run.id, state, error=None if state == "succeeded" else "it broke")


def register(stores: Stores, run: Run, folder: Path) -> str:
    """Register a model of a run; returns the digest of its files."""
    folder.mkdir()
    (folder / "model.ubj").write_bytes(b"trees")
    (folder / "more").mkdir()
    (folder / "more" / "features.json").write_text("{}")
    kept = stores.artifacts.put_tree(folder, name="model")
    stores.metadata.register_model_version("late", run.id, kept.digest, artifact_uri=kept.uri)
    return kept.digest
