"""Pipelines with steps of the user's own: found, checked, compared and applied as everything else that is declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.errors import PlanError, SpecError
from mlflow_core.plan.diff import declared_json, diff
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.lineage import Node, lineage
from mlflow_core.plan.project import KINDS
from tests.plan.repos import GOOD, good, load

NIGHTLY = """import mlflow_core as ml

FACTOR = 2


@ml.step
def extract(*, n: int = 3) -> list:
    return list(range(n))


@ml.step(retries=1, timeout="1m")
def counted(raw: list) -> dict:
    return {"n": len(raw) * FACTOR}


nightly = ml.Pipeline("nightly", steps=[counted(inputs={"raw": "extract"}), extract(n=4)])
"""
BIASED = """from pathlib import Path

import mlflow_core as ml


@ml.step
def biased(dataset: Path, evaluation: dict, model: Path) -> None:
    return None
"""
WITH_STEP = (
    GOOD["pipelines/late.py"]
    .replace("slices=", "steps=[biased()],\n    slices=")
    .replace("import mlflow_core as ml\n", "import mlflow_core as ml\nfrom pipelines.own import biased\n")
)


def applied(project):
    return {
        kind: {name: declared_json(one) for name, one in project.declared(kind).items()} for kind in KINDS
    }


def test_pipelines_of_steps_are_found_beside_trainings(tmp_path: Path) -> None:
    project = load(good(tmp_path, {"pipelines/nightly.py": NIGHTLY}))

    assert [one.name for one in project.step_pipelines["nightly"].steps] == ["counted", "extract"]
    assert set(project.pipelines) == {"late"}
    assert project.step_pipelines["nightly"].steps[0].import_path == "pipelines.nightly:counted"
    assert Node("step_pipelines", "nightly") in lineage(project).nodes


def test_a_training_may_have_steps_that_read_what_it_makes(tmp_path: Path) -> None:
    project = load(good(tmp_path, {"pipelines/own.py": BIASED, "pipelines/late.py": WITH_STEP}))

    (step,) = project.pipelines["late"].steps
    assert dict(step.takes) == {"dataset": "path", "evaluation": "dict", "model": "path"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("evaluation: dict", "evaluation: list", 'reads "evaluation" as list, and that is dict'),
        ("model: Path", "modle: Path", 'Did you mean "model"?'),
        ("def biased", "def gate", 'a step is called "gate", which is a step of every training'),
        ("def biased", "def registered", 'a step is called "registered", which is a step of every training'),
    ],
)
def test_a_step_that_does_not_fit_its_training_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    own, late = BIASED.replace(old, new), WITH_STEP
    if new.startswith("def "):
        late = late.replace("biased", new.removeprefix("def "))

    with pytest.raises(SpecError) as raised:
        load(good(tmp_path, {"pipelines/own.py": own, "pipelines/late.py": late}))

    assert told in str(raised.value)
    assert "pipelines/late.py:" in str(raised.value)


def test_a_name_means_one_pipeline(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"has the name of a training pipeline, declared at .*late\.py"):
        load(good(tmp_path, {"pipelines/nightly.py": NIGHTLY.replace('"nightly"', '"late"')}))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("len(raw)", "len(raw) + 1", "steps: ~ counted (code)"),
        ("FACTOR = 2", "FACTOR = 3", "steps: ~ counted (code)"),
        ("n=4", "n=5", "steps: ~ extract (params)"),
        ("retries=1", "retries=2", "steps: ~ counted (retries)"),
        (", extract(n=4)]", ", extract(n=4), extract(name='more')]", "steps: + more"),
    ],
)
def test_what_changed_in_a_step_is_told_by_its_name(tmp_path: Path, old: str, new: str, told: str) -> None:
    before = applied(load(good(tmp_path / "a", {"pipelines/nightly.py": NIGHTLY})))
    after = load(good(tmp_path / "b", {"pipelines/nightly.py": NIGHTLY.replace(old, new)}))

    (change,) = diff(before, after).changes

    assert (change.action, change.kind, change.name) == ("change", "step_pipelines", "nightly")
    assert told in change.describe()


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("retries=1", "retries=2", True),
        ("\n    return {", "\n    # said\n    return {", True),
        ("FACTOR = 2", "FACTOR = 3", False),
    ],
)
def test_the_fingerprint_follows_what_steps_compute(tmp_path: Path, old: str, new: str, same: bool) -> None:
    before = load(good(tmp_path / "a", {"pipelines/nightly.py": NIGHTLY})).step_pipelines["nightly"]
    first = fingerprint(before)
    after = load(good(tmp_path / "b", {"pipelines/nightly.py": NIGHTLY.replace(old, new)})).step_pipelines[
        "nightly"
    ]

    assert (fingerprint(after) == first) is same
