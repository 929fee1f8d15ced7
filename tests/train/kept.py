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
