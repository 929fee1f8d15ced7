"""What a run runs on, as far as it can change what it computes: Python, every installed package, our own sources."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow_core
from mlflow_core.artifacts import digest_bytes
from mlflow_core.metadata.canonical import canonical

if TYPE_CHECKING:
    from mlflow_core.workflow.journal import Journal

__all__ = [
    "ENVIRONMENT",
    "digest_of_environment",
    "digest_of_package",
    "environment",
    "environment_text",
    "installed",
    "keep_environment",
]

ENVIRONMENT = "environment"
"""The name of a run's artifact that holds the version of each installed package."""

_OWN = "mlflow-core"
_PACKAGES = ("mlflow-core", "xgboost", "dask", "feast", "pyarrow", "numpy", "duckdb")
_OF_EXTRAS = ("torch", "safetensors", "scikit-learn", "skops", "optuna")
_NEVER_COMPUTE = ("cli", "client", "serve", "testing", "ui")


def installed() -> dict[str, str]:
    """Python's version and that of each installed distribution, by name.

    Example:
        >>> installed()["python"] == platform.python_version()
        True
    """
    found = {"python": platform.python_version(), "implementation": platform.python_implementation()}
    for folder in dict.fromkeys(sys.path):
        # The names of these folders say it all; reading what is in them takes a third of a second.
        for one in sorted(Path(folder or ".").glob("*.dist-info")):
            name, _, version = one.name.removesuffix(".dist-info").partition("-")
            found.setdefault(name.lower().replace("_", "-"), version)
    found.pop(_OWN, None)  # our own sources count by what they say
    return dict(sorted(found.items()))


def environment_text(packages: Mapping[str, str]) -> bytes:
    """The text whose digest stands for an environment in a step's key, and that is kept with each run.

    Example:
        >>> environment_text({"python": "3.11.2"})
        b'{"python":"3.11.2"}'
    """
    return canonical(packages).encode()


def digest_of_environment(packages: Mapping[str, str]) -> str:
    """The digest of ``environment_text``."""
    return digest_bytes(environment_text(packages))


@cache
def digest_of_package() -> str:
    """The digest of this package's sources, without the rooms that only show what others computed.

    It is read once in a process: what was imported does not change when somebody edits a file meanwhile.

    Returns:
        ``sha256:`` and 64 hexadecimal digits; the same on every machine with the same sources.
    """
    root = Path(mlflow_core.__file__).parent
    seen = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if inside.parts[0] not in _NEVER_COMPUTE:
            content = path.read_bytes()
            seen.update(f"{inside.as_posix()} {len(content)}\n".encode())
            seen.update(content)
    return f"sha256:{seen.hexdigest()}"


def environment() -> dict[str, str]:
    """Name what a run ran on: the machine, Python, and the packages that its figures depend on."""
    packages = {name: version(name) for name in _PACKAGES}
    for name in _OF_EXTRAS:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {"machine": platform.platform(), "python": platform.python_version(), **packages}


def keep_environment(journal: Journal, packages: Mapping[str, str]) -> None:
    """Keep a run's environment among its files; keys of its steps name it by its digest.

    Args:
        journal: Of the run.
        packages: As ``installed`` gave them.
    """
    kept = journal.artifacts.put_bytes(
        environment_text(packages), name=ENVIRONMENT, media_type="application/json"
    )
    journal.note(ENVIRONMENT, kept)
