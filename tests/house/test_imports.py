"""What an import costs: `import mlflow_core`, the command's help and the client load nothing heavy.

Each case is a process of its own, since this one has loaded everything already.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.house.repository import ROOT

HEAVY = {
    "dask",
    "distributed",
    "duckdb",
    "feast",
    "llvmlite",
    "matplotlib",
    "mlflow",
    "numba",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
}
HEAVY |= {"torch", "xgboost"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules, and ours by full name, in a fresh interpreter after a statement."""
    report = "import sys, json; print('\\n' + json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    modules = json.loads(answer.stdout.splitlines()[-1])
    return {name if name.startswith("mlflow_core") else name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import mlflow_core", id="the package"),
        pytest.param("import mlflow_core as ml; ml.Entity('carrier')", id="a first spec"),
        pytest.param("import mlflow_core.cli", id="the command"),
        pytest.param(
            "import sys, mlflow_core.cli\nsys.argv = ['mlcore', '--help']\n"
            "try:\n    mlflow_core.cli.main()\nexcept SystemExit as done:\n    assert not done.code, done.code",
            id="the command's help",
        ),
    ],
)
def test_it_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_the_package_loads_its_rooms_only_when_they_are_asked_for() -> None:
    assert loaded_by("import mlflow_core") & {"pydantic", "mlflow_core.spec", "mlflow_core.plan"} == set()


def test_the_client_stands_alone() -> None:
    loaded = loaded_by("import mlflow_core.client")

    ours = {name for name in loaded if name.startswith("mlflow_core.")}
    assert {name for name in ours if not name.startswith("mlflow_core.client")} == set()
    assert loaded & (HEAVY | {"pydantic", "sqlalchemy"}) == set()


def test_every_name_that_the_package_offers_can_be_had() -> None:
    loaded_by(
        "import mlflow_core as ml\nassert ml.__all__\nfor name in ml.__all__:\n    assert getattr(ml, name) is not None, name"
    )


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    loaded_by(
        "import mlflow_core as ml\n"
        "try:\n    ml.Entitty\n"
        "except AttributeError as wrong:\n    assert 'Entitty' in str(wrong)\n"
        "else:\n    raise SystemExit('no error')"
    )
