"""Where a model version came from, and whether its features are still declared as they were when it was trained."""

from __future__ import annotations

import json

import pytest

from mlflow_core.cli.boundary import run as mlcore
from mlflow_core.cli.templates import TEMPLATES
from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.load import load_project


@pytest.fixture
def root(tmp_path):
    """The minimal template's declarations; it has no data, which nobody asks for here."""
    root = tmp_path / "parcels"
    for path, text in TEMPLATES["minimal"].files("parcels").items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.fixture
def version(root):
    """A registered version, trained on the features as they are declared now."""
    project = load_project(root, name="parcels", feature_repo="feature_repo", pipelines="pipelines")
    prints = {
        "view depot_speed": fingerprint(project.views["depot_speed"]),
        "service speed": fingerprint(project.services["speed"]),
    }
    url = f"sqlite:///{root / '.mlcore' / 'metadata.db'}"
    with MetadataStore(url, SystemClock(), Principal("ops", "option"), project="parcels") as store:
        dataset = store.register_dataset(
            "late_parcel", "sha256:d", schema={}, rows={"train": 3}, clock="served", split={},
            source_snapshot={"parcels": "sha256:s"}, report={},
        )  # fmt: skip
        run = store.create_run("late_parcel")
        signature = {"service": "speed", "fingerprints": prints}
        store.register_model_version(
            "late_parcel", run.id, "sha256:m", {"auc": 0.9}, signature, dataset_id=dataset.id, alias="champion",
            why="a test",
        )  # fmt: skip
        store.start_deployment("late_parcel", 1, "canary", why="a test")
    return run.id


def lineage(root, capsys):
    capsys.readouterr()
    assert mlcore(["--root", str(root), "--json", "models", "lineage", "late_parcel@champion"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_names_run_dataset_features_sources_and_deployments(root, version, capsys):
    told = lineage(root, capsys)

    assert (told["model"], told["aliases"], told["run"]["id"]) == ("late_parcel:1", ["champion"], version)
    assert (told["dataset"]["rows"], told["sources"]) == ({"train": 3}, {"parcels": "sha256:s"})
    assert [(one["kind"], one["name"], one["now"]) for one in told["features"]] == [
        ("service", "speed", "same"),
        ("view", "depot_speed", "same"),
    ]
    assert [one["target"] for one in told["deployments"]] == ["canary"]


def test_a_view_that_was_changed_since_is_told(root, version, capsys):
    depots = root / "feature_repo" / "depots.py"
    depots.write_text(depots.read_text().replace('over=["2d", "14d"]', 'over=["2d", "7d"]'))

    assert {one["name"]: one["now"] for one in lineage(root, capsys)["features"]} == {
        "depot_speed": "changed",
        "speed": "changed",
    }
    assert mlcore(["--root", str(root), "models", "lineage", "late_parcel:1"]) == 0
    assert "depot_speed, sha256:" in (out := capsys.readouterr().out)
    assert out.count("changed since") == 2


def test_what_is_declared_no_more_is_told(root, version, capsys):
    (root / "feature_repo" / "depots.py").unlink()
    (root / "pipelines" / "late_parcel.py").unlink()

    assert {one["now"] for one in lineage(root, capsys)["features"]} == {"gone"}


def test_a_project_that_does_not_load_hides_no_history(root, version, capsys):
    (root / "feature_repo" / "depots.py").write_text("import nothing_of_that_name\n")

    told = lineage(root, capsys)

    assert {one["now"] for one in told["features"]} == {None}
    assert told["run"]["id"] == version
