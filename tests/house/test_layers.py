"""The import contracts of pyproject.toml bite: each wrong arrow, put into a small copy of the house, is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.repository import ROOT

LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
BY_ID = {contract["id"]: contract for contract in LINTER["contracts"]}
ROOMS = [room.strip(" ()") for layer in BY_ID["layers"]["layers"] for room in layer.split("|")]
OF_TRAINING = [one.strip() for layer in BY_ID["training"]["layers"] for one in layer.split("|")]
NAMES = {contract["id"]: contract["name"] for contract in LINTER["contracts"]}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A package with every room and nothing in them, under the repository's own contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for room in ["", *ROOMS, "client", *(f"train/{one}" for one in OF_TRAINING)]:
        folder = tmp_path / "mlflow_core" / room
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("")
    return tmp_path


def verdict(house: Path) -> str:
    """What import-linter says of the package in a folder; its exit status must agree with its words."""
    command = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    text = answer.stdout + answer.stderr
    assert (answer.returncode == 0) == (", 0 broken" in text), text
    return text


def test_the_empty_house_keeps_every_contract(house: Path) -> None:
    text = verdict(house)

    assert f"{len(NAMES)} kept, 0 broken" in text


@pytest.mark.parametrize(
    ("module", "code", "contract"),
    [
        ("spec/a.py", "import mlflow_core.plan", "layers"),
        ("sources/a.py", "import mlflow_core.metadata", "layers"),
        ("errors/a.py", "import mlflow_core.config", "layers"),
        ("attic/__init__.py", "", "layers"),
        ("engine/a.py", "from feast import Entity", "no-feast-below"),
        ("online/a.py", "def f():\n    import feast", "no-feast-below"),
        ("train/data/a.py", "from mlflow_core.metadata import x", "train"),
        ("train/data/a.py", "import mlflow_core.sources", "train"),
        ("train/models/a.py", "import mlflow_core.train.xgboost", "training"),
        ("train/torch/a.py", "import mlflow_core.train.sklearn", "training"),
        ("train/attic/__init__.py", "", "training"),
        ("client/a.py", "from mlflow_core import errors", "client"),
        ("client/a.py", "import pydantic", "client"),
    ],
)
def test_a_wrong_arrow_is_refused(house: Path, module: str, code: str, contract: str) -> None:
    path = house / "mlflow_core" / module
    path.parent.mkdir(exist_ok=True)
    path.write_text(code + "\n")

    assert f"{NAMES[contract]} BROKEN" in verdict(house)


def test_a_circle_inside_a_room_is_refused_however_lazy(house: Path) -> None:
    (house / "mlflow_core/plan/a.py").write_text("import mlflow_core.plan.b\n")
    (house / "mlflow_core/plan/b.py").write_text("def late():\n    import mlflow_core.plan.a\n")

    assert f"{NAMES['acyclic']} BROKEN" in verdict(house)


def test_config_may_raise_our_errors_and_rooms_may_look_down(house: Path) -> None:
    (house / "mlflow_core/config/a.py").write_text("from mlflow_core import errors\n")
    (house / "mlflow_core/engine/a.py").write_text("from mlflow_core import plan, online, algebra\n")

    assert ", 0 broken" in verdict(house)


@pytest.mark.parametrize(("room", "refused"), [("serve", True), ("sources", True), ("metadata", False)])
def test_only_metadata_may_import_the_object_mapper(room: str, refused: bool) -> None:
    file = f"mlflow_core/{room}/a.py"

    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--no-cache",
            "--select=TID251",
            f"--stdin-filename={file}",
            "-",
        ],
        cwd=ROOT,
        input="from sqlalchemy.orm import Session\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ("TID251" in answer.stdout) == refused, answer.stdout + answer.stderr
