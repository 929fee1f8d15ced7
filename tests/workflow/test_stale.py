"""What decides an output and lies outside the declarations: a user's estimator, moved sources, a collection under way."""

from __future__ import annotations

import os
from functools import partial

import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config.clock import SystemClock
from mlflow_core.errors import ArtifactError, SourceError
from mlflow_core.spec import Family, Sklearn, Torch
from mlflow_core.train.identity import identity_of, settings_of
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.resuming import resume_run
from mlflow_core.workflow.training import fitting
from mlflow_core.workflow.training.nodes import graph_of
from mlflow_core.workflow.training.recipe import Recipe
from tests.workflow.projects import change_one_row, edit

OWN = """
STRENGTH = 1.0


def strength():
    return STRENGTH  # of the penalty


class Mine:
    def fit(self, x, y):
        self.c = strength()
"""
READ_BY_ALL = {"train", "evaluate", "report"}


def keys(machines, trainer):
    """By step the part ``code`` of its key, without this package's."""
    workspace = open_workspace(machines)
    spec = workspace.pipeline("breakdown").model_copy(update={"trainer": trainer})
    nodes = graph_of(Recipe(workspace, spec)).nodes
    workspace.metadata.close()
    return {name: {**node.key.code, "mlflow_core": ""} for name, node in nodes.items()}


@pytest.mark.parametrize(
    "trainer",
    [
        Sklearn(estimator="machines.own:Mine"),
        Torch(module="machines.own:Mine"),
        Family(trainer=Sklearn(estimator="machines.own:Mine"), by=("temperature",)),
    ],
    ids=lambda one: one.kind,
)
def test_the_code_of_a_users_network_or_estimator_is_in_the_keys_of_what_runs_it(machines, trainer):
    own = machines / "machines" / "own.py"
    own.write_text(OWN)
    before = keys(machines, trainer)
    assert {"machines.own:Mine", "machines.own:strength", "machines.own:STRENGTH"} <= before["train"].keys()

    edit(own, "# of the penalty", "# of what is taken off")
    assert keys(machines, trainer) == before
    edit(own, "STRENGTH = 1.0", "STRENGTH = 2.0")
    after = keys(machines, trainer)

    assert {name for name in after if after[name] != before[name]} == READ_BY_ALL


def test_a_library_of_others_is_told_by_the_environment_alone(machines):
    code = keys(machines, Sklearn(estimator="sklearn.linear_model:LogisticRegression"))
    assert set(map(len, code.values())) == {1}


def test_a_run_whose_training_set_is_gone_does_not_go_on_with_other_rows(workspace, machines, monkeypatch):
    monkeypatch.setattr(fitting, "fit", partial(_raise, SourceError("no")))
    with pytest.raises(SourceError):
        fitting_run(workspace)
    monkeypatch.undo()
    run_id = workspace.metadata.get_run("latest").id
    [dataset] = workspace.metadata.list_datasets()
    workspace.artifacts.delete_tree(dataset.artifact_digest)
    change_one_row(machines / "machines" / "data" / "readings.parquet")

    with pytest.raises(SourceError, match="source readings changed since the run began"):
        resume_run(workspace, run_id)

    assert workspace.metadata.get_run(run_id).state == "failed"
    assert fitting_run(workspace).version == 1


def fitting_run(workspace):
    from mlflow_core.workflow.training import run_pipeline

    return run_pipeline(workspace, "breakdown")


def _raise(error, *_arguments, **_named):
    raise error


def test_a_found_output_is_young_again_so_that_no_collection_takes_it(tmp_path):
    store = ArtifactStore(str(tmp_path / "artifacts"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rows").write_bytes(b"rows")
    tree, file = store.put_tree(tmp_path / "folder"), store.put_bytes(b"value")
    for path in (tmp_path / "artifacts").rglob("*"):
        os.utime(path, (0, 0))
    store.touch(tree.digest)
    store.touch(file.digest)

    assert store.gc(frozenset(), 3_600_000_000, SystemClock()).deleted == ()
    store.verify(tree.digest)
    store.delete(store.files_of(tree.digest)[0].digest)
    with pytest.raises(ArtifactError, match="is not in the store"):
        store.touch(tree.digest)
    with pytest.raises(ArtifactError, match="is not in the store"):
        store.touch("sha256:" + "0" * 64)


def test_a_run_that_finds_all_makes_all_of_it_young(workspace):
    first = fitting_run(workspace)
    root = workspace.settings.root
    for path in (root / ".mlcore").rglob("*"):
        if "sha256" in path.parts and path.is_file():
            os.utime(path, (0, 0))

    again = fitting_run(workspace)

    assert set(again.found) == set(first.seconds)
    steps = {one.output_digest for one in workspace.metadata.list_steps(again.run_id)}
    gone = workspace.artifacts.gc(frozenset(), 3_600_000_000, SystemClock(), dry_run=True).deleted
    assert steps.isdisjoint(gone)
    kept = {one.digest for one in workspace.metadata.list_artifacts(again.run_id)}
    assert kept.isdisjoint(gone)


def test_what_is_kept_for_a_training_to_go_on_is_told_by_the_users_estimator_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    trainer, own = Sklearn(estimator="own_estimator:Mine"), tmp_path / "own_estimator.py"
    own.write_text(OWN)
    before = identity_of(trainer)
    own.write_text(OWN.replace("1.0", "2.0"))

    assert identity_of(trainer) != before
    assert settings_of(trainer) == trainer.model_dump(mode="json")
