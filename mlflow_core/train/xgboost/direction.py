"""Which way XGBoost's metrics point; for whoever stops early by one, and for whoever searches by one."""

from __future__ import annotations

from typing import Final

__all__ = ["is_maximised"]

_GREATER: Final = ("auc", "aucpr", "pre", "map", "ndcg", "ams", "interval-regression-accuracy")


def is_maximised(metric: str) -> bool:
    """Whether a greater value of one of XGBoost's metrics is a better one.

    Args:
        metric: XGBoost's name, with what may follow it.

    Example:
        >>> [is_maximised(name) for name in ("ams@0.15", "ndcg@10-", "mape", "logloss")]
        [True, True, False, False]
    """
    return metric != "mape" and metric.startswith(_GREATER)
