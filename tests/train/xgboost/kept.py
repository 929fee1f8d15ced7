"""A recorder that keeps what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Kept:
    """Params in ``seen``, metrics of rounds in ``rounds``."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.rounds: list[tuple[int | None, dict[str, float]]] = []

    def params(self, params: Mapping[str, Any]) -> None:
        self.seen |= params

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        self.rounds.append((step, dict(metrics)))

    def artifact(self, name: str, path: Path) -> None:
        raise AssertionError("training hands its artifact back as a model")
