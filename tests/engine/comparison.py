"""The engine's answers beside the oracle's, value by value."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from mlflow_core.engine.views.view import compute_view
from mlflow_core.testing.histories import History, read_under
from tests.oracle.features import Oracle, agrees


def mismatches(
    history: History, clock: str, counted: Counter | None = None, *, told: History | None = None
) -> list[str]:
    """Compare every feature of every entity row; say which differ, and count what was compared.

    ``told`` is what the engine is given where that is the same world in other words.
    """
    given = told or history
    answers = compute_view(given.events, given.rows, read_under(given.view, clock))
    return differing(history, clock, answers, counted)


def differing(
    history: History,
    clock: str,
    answers: pa.Table,
    counted: Counter | None = None,
    *,
    oracle: Oracle | None = None,
) -> list[str]:
    """Say which answers are not the truth of a world, and count what was compared."""
    oracle = oracle or Oracle(history.view, history.events, clock)
    functions = {window.name: window.function for window in history.view.windows}
    columns = {name: answers[name].to_pylist() for name in answers.column_names}
    assert answers.num_rows == history.rows.num_rows
    assert tuple(columns) == history.view.feature_names
    wrong = []
    times = history.rows["event_timestamp"].cast(pa.int64()).to_pylist()
    for row, (entity, t) in enumerate(zip(history.rows.to_pylist(), times, strict=True)):
        truths = oracle.answer([entity[key] for key in history.view.keys], t)
        for name, truth in truths.items():
            function = functions.get(name)
            if counted is not None:
                label = "latest" if function is None else str(function)
                counted[label, clock] += 1
                counted[f"{label}, not empty", clock] += truth.value not in (None, 0)
            squared = function is not None and function.name == "std"
            if not agrees(truth, columns[name][row], squared=squared):
                wrong.append(
                    f"row {row} {entity} {name} under {clock}: {columns[name][row]!r}, truth {truth}"
                )
    return wrong
