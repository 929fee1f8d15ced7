"""Which rounds the trainer trains in this process; evaluations and checks of settings train boosters of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mlflow_core.train.xgboost import rank


def counted_rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the rounds, growing while they are trained."""
    rounds: list[int] = []
    boost = rank.boost

    def counted(
        *arguments: Any, after_round: Callable[[int, Mapping[str, float]], None], **named: Any
    ) -> Any:
        def told(round_: int, metrics: Mapping[str, float]) -> None:
            rounds.append(round_)
            after_round(round_, metrics)

        return boost(*arguments, after_round=told, **named)

    monkeypatch.setattr(rank, "boost", counted)
    return rounds
