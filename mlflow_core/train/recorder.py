"""Where training reports what it does: a protocol, and one that keeps nothing.

Training knows no database. Whoever calls it passes a ``Recorder``; ``workflow`` has the one that writes runs to
the metadata store.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

__all__ = ["NullRecorder", "Recorder"]


@runtime_checkable
class Recorder(Protocol):
    """Whoever keeps a run's parameters, metrics and artifacts."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Record settings, JSON-able values by name."""
        ...

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record measured values by name.

        Args:
            metrics: Value by name.
            step: Which round or epoch they belong to, from 0; None for final figures.
        """
        ...

    def artifact(self, name: str, path: Path) -> None:
        """Record a file or folder that the run made, under a name."""
        ...


class NullRecorder:
    """Keeps nothing: the default of every function that takes a ``Recorder``."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Forget the settings."""

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Forget the values."""

    def artifact(self, name: str, path: Path) -> None:
        """Forget the file."""
