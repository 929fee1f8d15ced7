"""What steps made of a training set that is erased: removed with it, never found again; what a run is remembered by stays."""

from __future__ import annotations

import io
import json
import threading

import pyarrow.parquet as pq
import pytest

from mlflow_core.errors import WorkflowError
from mlflow_core.metadata import MadeOutput
from mlflow_core.workflow import user_steps
from mlflow_core.workflow.derived import holds_rows, made_of
from mlflow_core.workflow.erasure import Places, erase
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import run_pipeline
from mlflow_core.workflow.training.measuring import CLOCKS
from mlflow_core.workflow.training.recipe import DATASET, EVALUATE, SEARCH, TRAIN
from mlflow_core.workflow.training.releasing import GATE, REGISTER, REPORT
from tests.workflow.projects import edit, enlarge

LATER = 1_900_000_000_000_000

COPIES = '''

@ml.step
def copied(dataset: pa.Table) -> pa.Table:
    """Every row."""
    return dataset


@ml.step
def folder(dataset: Path) -> Path:
    """Every file as it is."""
    return Path(shutil.copytree(dataset, "folder/rows")).parent


@ml.step
def same(dataset: Path) -> Path:
    """The very same folder."""
    return Path(shutil.copytree(dataset, "same"))


@ml.step
def counted(copied: pa.Table) -> dict:
    """How many rows of each machine."""
    return dict(Counter(copied["machine"].to_pylist()))


@ml.step
def nobody(dataset: pa.Table) -> dict:
    """Always the same."""
    return {"nobody": True}
'''


@pytest.fixture
def project(machines):
    """The enlarged example with steps that copy the training set."""
    enlarge(machines)
    steps = machines / "machines" / "steps.py"
    steps.write_text(steps.read_text() + COPIES)
    imports = (
        "import shutil\nfrom collections import Counter\nfrom pathlib import Path\n\nimport pyarrow as pa\n"
    )
    edit(steps, "import pyarrow as pa\n", imports)
    training = machines / "training" / "breakdown.py"
    names = "busiest, copied, counted, folder, nobody, same, summary"
    edit(training, "import busiest, summary", f"import {names}")
    edit(training, "summary()]", "summary(), copied(), same(), counted(), folder(), nobody()]")
    return machines


@pytest.fixture
def workspace(project):
    found = open_workspace(project)
    yield found
    found.metadata.close()


def places(workspace) -> Places:
    return Places(workspace.metadata, (), None, workspace.artifacts)


def outputs(workspace, run_id):
    """By step the digest of its output."""
    steps = workspace.metadata.list_steps(run_id)
    return {one.name: one.output_digest for one in steps if one.output_digest}


def holding(workspace, machine):
    """The artifacts in which a machine's name stands, in Parquet or as it is."""
    found = []
    for digest in workspace.artifacts.list():
        data = workspace.artifacts.read_bytes(digest)
        if data[:4] == b"PAR1":
            table = pq.read_table(io.BytesIO(data))
            names = table["machine"].to_pylist() if "machine" in table.column_names else ()
            found += [digest] if machine in names else []
        elif f'"{machine}"'.encode() in data:
            found.append(digest)
    return found


def test_what_steps_made_of_an_erased_dataset_goes_and_is_never_found_again(workspace):
    trained = run_pipeline(workspace, "breakdown")
    before = outputs(workspace, trained.run_id)
    assert len(holding(workspace, "m3")) >= 3, "the training set, its copy, and what was counted in it"

    erased = erase(places(workspace), {"machine": "m3"}, now_us=LATER)

    assert holding(workspace, "m3") == []
    gone = {one.step for one in erased.outputs}
    assert gone == {"evaluate", "busiest", "summary", "copied", "counted", "folder", "nobody"}
    assert {one.runs for one in erased.outputs} == {(trained.run_id,)}
    there = {name for name, digest in before.items() if workspace.artifacts.exists(digest)}
    assert there == {"train", "report", "register"}
    workspace.artifacts.verify(before["train"])
    workspace.artifacts.verify(before["report"])
    files = {one.name: one.digest for one in workspace.metadata.list_artifacts(trained.run_id)}
    assert workspace.artifacts.read_bytes(files["evaluation.json"]), "figures of the run stay"
    [told] = workspace.metadata.audit_entries(action="outputs.remove")
    assert len(json.loads(told.details)["outputs"]) == len(gone)
    assert "m3" not in told.details

    again = run_pipeline(workspace, "breakdown")
    assert again.found == ()
    assert holding(workspace, "m3") == []
    assert outputs(workspace, again.run_id)["nobody"] == before["nobody"]

    assert erase(places(workspace), {"machine": "m3"}, now_us=LATER + 1).outputs == ()
    assert all(workspace.artifacts.exists(one) for one in outputs(workspace, again.run_id).values()), (
        "what was made of other rows stays, though it has the bytes of what was removed"
    )


def test_an_erasure_that_was_cut_off_after_the_dataset_is_completed_by_the_next(workspace, monkeypatch):
    trained = run_pipeline(workspace, "breakdown")

    def cut(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow_core.workflow.erasure.remove_outputs", cut)
    with pytest.raises(KeyboardInterrupt):
        erase(places(workspace), {"machine": "m3"}, now_us=LATER)
    assert not workspace.artifacts.exists(trained.dataset.artifact.digest)
    assert holding(workspace, "m3") != []
    monkeypatch.undo()

    assert erase(places(workspace), {"machine": "m3"}, now_us=LATER).outputs
    assert holding(workspace, "m3") == []


def test_an_output_that_was_made_while_its_rows_were_erased_does_not_stay(project, monkeypatch, tmp_path):
    # These two only: another that began after the erasure would say that it cannot read the dataset, or not come to it.
    every = "[busiest(top=3), summary(), copied(), same(), counted(), folder(), nobody()]"
    edit(project / "training" / "breakdown.py", every, "[copied(), same()]")
    workspace = open_workspace(project)
    call_step, erased, begun = user_steps.call_step, threading.Event(), threading.Event()

    def erasing(call, **named):
        made = call_step(call, **named)
        if call.name == "copied":
            assert begun.wait(60)
            erase(places(workspace), {"machine": "m3"}, now_us=LATER)
            erased.set()
        if call.name == "same":  # its last write comes after the erasure
            kept = workspace.artifacts.fetch_tree(made.digest, tmp_path / "kept")
            begun.set()
            assert erased.wait(60)
            workspace.artifacts.put_tree(kept)
        return made

    monkeypatch.setattr(user_steps, "call_step", erasing)
    with pytest.raises(WorkflowError, match="was removed meanwhile"):
        run_pipeline(workspace, "breakdown")

    assert holding(workspace, "m3") == []
    assert workspace.metadata.get_run("latest").state == "failed"
    monkeypatch.undo()
    assert "m3" not in str(run_pipeline(workspace, "breakdown").dataset.manifest)
    workspace.metadata.close()


def test_an_output_that_another_project_needs_stays(workspace):
    trained = run_pipeline(workspace, "breakdown")
    digest = outputs(workspace, trained.run_id)["nobody"]
    other = workspace.metadata.create_run("other").id
    step = workspace.metadata.start_step(other, "nobody", cache_key="k", cache_parts={"inputs": {}})
    workspace.metadata.finish_step(step.id, output_digest=digest)

    erased = erase(places(workspace), {"machine": "m3"}, now_us=LATER)

    assert "nobody" not in {one.step for one in erased.outputs}
    assert workspace.artifacts.read_bytes(digest)


def test_outputs_are_followed_over_any_number_of_steps_but_not_through_models():
    def made(number, step, digest, *inputs):
        return MadeOutput(number, "r", step, digest, frozenset(inputs))

    train, late = made(1, "train", "m", "d"), made(2, "c", "c", "b")
    outputs = [train, late, made(3, "a", "a", "d"), made(4, "b", "b", "a"), made(5, "shown", "s", "m")]
    assert [one.step for one in made_of(outputs, {"d"})] == ["c", "a", "b"]
    assert made_of(outputs, {"elsewhere"}) == []

    clean = made(6, "a", "a", "other rows")
    assert [one.step_id for one in made_of([*outputs, clean], {"d"})] == [3], "b was made of the same bytes"


def test_the_steps_that_a_run_is_remembered_by_have_the_names_of_the_training():
    stay = {SEARCH, TRAIN, f"{TRAIN}_event", REPORT, GATE, REGISTER}
    assert not any(holds_rows(one) for one in stay)
    assert all(holds_rows(one) for one in (DATASET, EVALUATE, CLOCKS, "busiest"))
