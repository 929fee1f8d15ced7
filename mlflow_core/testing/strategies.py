"""Hypothesis strategies for whole small worlds; needs the ``hypothesis`` package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from mlflow_core.testing.histories import (
    COLUMNS,
    FIRST_TIMES,
    SPAN,
    History,
    event_choices,
    events_table,
    key_choices,
    random_view,
    rows_table,
)

__all__ = ["histories"]


@st.composite
def histories(
    draw: st.DrawFn, *, events: int = 30, rows: int = 6, columns: tuple[str, ...] = tuple(COLUMNS)
) -> History:
    """Draw a small world row by row, so that it shrinks towards fewer rows and plainer values.

    Args:
        draw: Given by hypothesis.
        events: How many rows the source has at most, but for three that may be repeated.
        rows: How many entity rows there are at most; some of them may be equal.
        columns: Of which of ``COLUMNS`` the view has features.
    """
    view = random_view(draw(st.randoms(use_true_random=False)), columns)
    first, integer = draw(st.sampled_from(FIRST_TIMES)), draw(st.booleans())
    keys = _choices(key_choices(integer=integer))
    moment = st.integers(0, SPAN).map(lambda after: first + after)
    late = st.none() | st.integers(0, SPAN + 20).map(lambda after: first + after)
    event = keys | {"t": moment, "known": late, "made": late} | _choices(event_choices(events // 2 + 1))
    row = keys | {"event_timestamp": st.integers(-5, SPAN + 45).map(lambda after: first + after)}
    happened = draw(_rows(event, events))
    again = draw(st.lists(st.integers(0, len(happened["t"]) - 1), max_size=3)) if happened["t"] else []
    places = pa.array([*range(len(happened["t"])), *again], pa.int64())
    return History(
        view,
        events_table(happened, integer_keys=integer).take(places),
        rows_table(draw(_rows(row, rows)), integer_keys=integer),
    )


def _choices(of: Mapping[str, tuple[list[Any], Any]]) -> dict[str, st.SearchStrategy[Any]]:
    return {
        name: st.sampled_from(
            [value for value, n in zip(values, often or [1] * len(values), strict=True) for _ in range(n)]
        )
        for name, (values, often) in of.items()
    }


def _rows(row: Mapping[str, st.SearchStrategy[Any]], most: int) -> st.SearchStrategy[dict[str, list[Any]]]:
    """Rows of named values, as columns."""
    return st.lists(st.tuples(*row.values()), max_size=most).map(
        lambda drawn: {name: [one[at] for one in drawn] for at, name in enumerate(row)}
    )
