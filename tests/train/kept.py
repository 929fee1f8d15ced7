"""A recorder that keeps what a training tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Kept:
    """Params in ``seen``, metrics with their round or step in ``told``."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.told: list[tuple[int | None, dict[str, float]]] = []

    def params(self, params: Mapping[str, Any]) -> None:
        self.seen |= params

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        self.told.append((step, dict(metrics)))

    def artifact(self, name: str, path: Path) -> None:
        raise AssertionError("training hands its artifact back as a model")


class Away(Kept):
    """Takes the folder of checkpoints away at one round or epoch, and puts it back at a later one.

    Args:
        folder: The folder.
        metric: Of which a step is meant.
        gone: The step at which it goes.
        back: The step at which it comes back.
    """

    def __init__(self, folder: Path, metric: str, gone: int, back: int) -> None:
        super().__init__()
        self._folder, self._metric, self._at = folder, metric, {gone: self._take, back: self._give}

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        super().metrics(metrics, step=step)
        if self._metric in metrics and step in self._at:
            self._at.pop(step)()

    def _take(self) -> None:
        self._folder.rename(self._folder.with_name("aside"))
        self._folder.write_text("no folder")

    def _give(self) -> None:
        self._folder.unlink()
        self._folder.with_name("aside").rename(self._folder)
