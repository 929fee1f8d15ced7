"""Compilation of kernels: numba, lazily, cached on disk under a fingerprint of the sources they are made of.

Numba renews a cached kernel when the kernel's own file changes, and does not see the functions of ``algebra``
that it calls. Here the cache folder's name carries a digest of all of them and of numba's version, so a stale
kernel is never run, nor one of another installed version; and a read-only installation can still cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config

from mlflow_core.algebra import moments

__all__ = ["cache_folder", "kernel", "scalar"]

F = TypeVar("F", bound=Callable[..., Any])
_SOURCES = (Path(moments.__file__), *sorted(Path(__file__).parent.glob("*.py")))


def cache_folder() -> Path:
    """Return the folder that holds the compiled kernels of this version; it may not exist yet."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "mlflow-core" / f"kernels-{digest.hexdigest()[:16]}"


def kernel(function: F) -> F:
    """Compile a function at its first call, and keep the result on disk."""
    settings: Any = config
    before = settings.CACHE_DIR
    # Numba asks for the folder once, here; other packages' kernels must not move into ours.
    settings.CACHE_DIR = str(cache_folder())
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    finally:
        settings.CACHE_DIR = before


def scalar(function: F) -> F:
    """Compile an algebra function for use inside kernels, where it becomes part of the caller."""
    return cast(F, numba.njit(nogil=True, error_model="numpy")(function))
