"""Whether a network can learn from the smallest part of a batch: one row is too little for batch normalisation.

A statistic over one row is none, and torch refuses it in the middle of an epoch. How small a part can be is known
beforehand, from the rows, the size of a batch, the ranks and ``accumulate``; so it is told before anything runs, with
a size of a batch that goes. No row is dropped and no batch made greater in silence.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.networks.build import trial_rows
from mlflow_core.train.networks.inputs import Inputs

__all__ = ["check_lone_row", "smallest_part"]


def check_lone_row(net: nn.Module, inputs: Inputs, trainer: Torch, rows: int) -> None:
    """Refuse a training in which a network with batch normalisation would be given one row.

    Args:
        net: The network; it is left as it is.
        inputs: The matrix that it reads.
        trainer: The settings.
        rows: Rows of the training part.

    Raises:
        TrainError: A part of a batch has one row, and the network cannot learn from one.
    """
    normed = any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in net.modules())
    if not normed or smallest_part(trainer, rows) > 1 or _takes_one(net, inputs):
        return
    going = (size for size in range(trainer.batch_size, 0, -1) if _goes(trainer, size, rows))
    size = next(going, None)
    last = rows % trainer.batch_size or min(rows, trainer.batch_size)
    shared = f" for {trainer.workers} workers" if trainer.workers > 1 else ""
    raise TrainError(
        f"a part of a batch has one row, of which batch normalisation can learn nothing: the last batch has {last} "
        f"of {rows} rows{shared}",
        object="Torch",
        place=trainer.place,
        expected="at least two rows in each part",
        hint="Use nn.LayerNorm."
        if size is None
        else f"Use batch_size={size}, or nn.LayerNorm in the network.",
    )


def smallest_part(trainer: Torch, rows: int) -> int:
    """Rows of the smallest part of a batch that goes through the network at once, at least 1.

    Example:
        >>> smallest_part(Torch(module="nets:Linear", batch_size=64), 129)
        1
        >>> smallest_part(Torch(module="nets:Linear", batch_size=64, workers=2), 140)
        6
    """
    parts = []
    for batch in {min(rows, trainer.batch_size), rows % trainer.batch_size or trainer.batch_size}:
        share = max(1, batch // trainer.workers)
        parts.append(max(1, share // trainer.accumulate))
    return min(parts)


def _goes(trainer: Torch, size: int, rows: int) -> bool:
    return smallest_part(trainer.model_copy(update={"batch_size": size}), rows) > 1


def _takes_one(net: nn.Module, inputs: Inputs) -> bool:
    """Whether it learns from one row all the same, as where it is normalised over several steps of a sequence."""
    trial = copy.deepcopy(net).train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            trial(trial_rows(inputs)[:1])
        except ValueError as error:
            return "more than 1 value per channel" not in str(error)
    return True
