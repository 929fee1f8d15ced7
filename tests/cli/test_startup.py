"""Verbs that neither write to Feast's registry nor ask a model load no library that takes seconds to import."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fresh import loaded_by

SLOW = ("dask", "distributed", "feast", "mlflow", "numba", "optuna", "scipy", "sklearn", "torch", "xgboost")
"""What computes, trains or serves; the other heavy ones (Arrow, DuckDB, SQLAlchemy) are what checking takes."""


def loaded(*words: str, cwd: Path) -> list[str]:
    """Which of the slow libraries a call has loaded when it has ended well."""
    code = f"from mlflow_core.cli.boundary import run\nassert run({list(words)!r}) == 0"
    return loaded_by(code, SLOW, cwd)


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    loaded("init", "parcels", cwd=folder)
    loaded("apply", cwd=folder / "parcels")
    return folder / "parcels"


@pytest.mark.parametrize(
    "verb",
    [
        "plan",
        "apply",
        "doctor",
        "features list",
        "features show speed",
        "features lineage speed",
        "runs list",
    ],
)
def test_a_project_that_is_applied_is_looked_at_without_slow_libraries(verb: str, parcels: Path) -> None:
    assert loaded(*verb.split(), cwd=parcels) == []
