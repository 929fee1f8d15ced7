"""Hypothesis strategies for whole small worlds; needs the ``hypothesis`` package."""

from __future__ import annotations

from hypothesis import strategies as st

from mlflow_core.testing.histories import History, random_history

__all__ = ["histories"]


def histories(*, events: int = 30, rows: int = 6) -> st.SearchStrategy[History]:
    """Return a strategy of small worlds that shrinks towards fewer rows and plainer values.

    Args:
        events: How many rows the source has at most.
        rows: How many entity rows there are at most.
    """
    return st.randoms(use_true_random=False).map(
        lambda random: random_history(random, events=events, rows=rows)
    )
