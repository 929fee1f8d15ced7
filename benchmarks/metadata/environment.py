"""An environment of its own for MLflow: it is a peer here and no dependency, and its versions must not touch ours."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

__all__ = ["MLFLOW", "interpreter_of_mlflow"]

MLFLOW = "mlflow-skinny==3.17.2"
# What its SQLAlchemy store imports beside, in the versions that ours runs on.
_BESIDE = ("sqlalchemy", "alembic", "pandas", "numpy")
_ROOT = Path(__file__).parents[2]


def interpreter_of_mlflow() -> Path:
    """Return the Python that has MLflow, made below ``.mlcore/`` on first use."""
    folder = _ROOT / ".mlcore" / "bench-metadata" / MLFLOW.replace("==", "-")
    python, ready = folder / "bin" / "python", folder / ".installed"
    if not ready.exists():
        print(f"installing {MLFLOW} into {folder}", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq"]
        # All of our constraints would not do: MLflow wants an older protobuf.
        subprocess.run([*pip, MLFLOW, *(f"{name}=={version(name)}" for name in _BESIDE)], check=True)
        ready.touch()
    return python
