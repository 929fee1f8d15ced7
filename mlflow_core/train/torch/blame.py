"""Who spoiled a step whose loss is not a number: which rows, of which file, with which values.

Asked only when a training has failed. The rows of the whole batch are read again, wherever their ranks are, so that
every rank finds the same ones and says the same sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.origin import Origin
from mlflow_core.train.torch.objectives import Learner
from mlflow_core.train.torch.stream import Columns

__all__ = ["Suspects", "accuse"]

_SHOWN = 5
_HINT = (
    "Lower learning_rate, set clip, or use a greater precision; look at the rows named. "
    "The checkpoints are kept: what was learned before this step is in the last one."
)


@dataclass(frozen=True)
class Suspects:
    """Rows among which the reason is.

    Args:
        what: What is not a number: the loss, the gradient.
        when: When, e.g. ``in step 12 of epoch 3``.
        rows: (n, n_columns) as stored.
        origins: Tells where some of them came from, by their place in ``rows``.
    """

    what: str
    when: str
    rows: NDArray[np.float32]
    origins: Callable[[Sequence[int]], Sequence[Origin]]


def accuse(suspects: Suspects, learner: Learner, columns: Columns, device: torch.device) -> NoReturn:
    """Say which rows have a loss that is not a number; where none has by itself, which files the batch is of.

    Raises:
        TrainError: Always.
    """
    bad = _bad(suspects.rows, learner, columns, device)
    many = len(suspects.rows)
    if 0 < len(bad) < many:
        rows = [f"{one.file} row {one.row}" for one in suspects.origins(bad[:_SHOWN])]
        who = f"of {many} rows of the batch {len(bad)} have such a loss: {_listed(rows, len(bad))}"
    else:
        origins = suspects.origins(range(many))
        files = sorted({str(one.file) for one in origins})
        who = (
            f"the batch has {many} rows of {_listed(files[:_SHOWN], len(files))}, "
            f"the first of them {origins[0].file} row {origins[0].row}"
        )
    raise TrainError(f"the {suspects.what} is not a finite number {suspects.when}; {who}", hint=_HINT)


def _listed(shown: Sequence[str], many: int) -> str:
    return ", ".join(shown) + (f" and {many - len(shown)} more" if many > len(shown) else "")


def _bad(
    rows: NDArray[np.float32], learner: Learner, columns: Columns, device: torch.device
) -> Sequence[int]:
    training = learner.training
    learner.eval()
    with torch.no_grad():
        batch = columns.batch(rows, device)
        losses = learner(batch.x, batch.y)
        if batch.w is not None:
            losses = losses * batch.w
    learner.train(training)
    found: list[int] = torch.nonzero(~torch.isfinite(losses))[:, 0].tolist()
    return found
