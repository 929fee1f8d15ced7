"""What was learned, whatever it was learned by: rows of numbers in, predictions out, files to keep it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scorer", "Task"]

Task = Literal["classification", "multiclass", "regression", "quantile", "ranking", "survival", "anomaly"]
"""What a model's values are: a probability, one per class, a quantity, quantiles of it, an order, a risk or a time,
how unusual a row is."""


@runtime_checkable
class Scorer(Protocol):
    """What was learned. Immutable; may be asked from several threads."""

    @property
    def kind(self) -> str:
        """``xgboost``, ``torch``, ``sklearn`` or ``family``."""
        ...

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict rows.

        Args:
            matrix: (n_rows, width) as ``Preprocessing.matrix`` makes it, at least one row.

        Returns:
            (n_rows,), or (n_rows, n_outputs) of a model with several outputs.
        """
        ...

    def files(self) -> Mapping[str, bytes]:
        """The files that keep it, by name; no pickle."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """JSON-able facts that ``load`` needs besides the files, and that a reader of ``model.json`` looks for."""
        ...

    def importance(self) -> Mapping[str, float]:
        """Each feature's share of what the model learned, as its kind measures it; empty where it does not."""
        ...
