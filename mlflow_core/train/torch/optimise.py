"""The optimiser of a training: AdamW, which weights decay, and how the learning rate goes; all functions of the step.

Because the rate is computed from the step alone there is no scheduler whose state could differ after a restart.
AdamW: Loshchilov, Hutter (2019), Decoupled Weight Decay Regularization; warm-up and cosine: Goyal et al. (2017) and
Loshchilov, Hutter (2017).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Torch

__all__ = ["average_decay", "decaying", "optimiser", "rate"]

_WITHOUT = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)


def optimiser(net: nn.Module, trainer: Torch) -> torch.optim.AdamW:
    """Make the optimiser of a network, whose parameters are where they shall stay.

    Raises:
        TrainError: The network has nothing to learn.
    """
    decay = decaying(net)
    learning = [(name, one) for name, one in net.named_parameters() if one.requires_grad]
    if not learning:
        raise TrainError("the network has no parameters to learn", expected="one that requires a gradient")
    groups = [
        {"params": [one for name, one in learning if name in decay], "weight_decay": trainer.weight_decay},
        {"params": [one for name, one in learning if name not in decay], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([one for one in groups if one["params"]], lr=trainer.learning_rate, fused=True)


def decaying(net: nn.Module) -> frozenset[str]:
    """The parameters that weight decay pulls to zero: not biases, norms and embeddings."""
    without = {
        id(one)
        for module in net.modules()
        if isinstance(module, _WITHOUT)
        for one in module.parameters(recurse=False)
    }
    return frozenset(
        name
        for name, one in net.named_parameters()
        if one.ndim > 1 and id(one) not in without and not name.rpartition(".")[2].startswith("bias")
    )


def rate(trainer: Torch, at: int, total: int) -> float:
    """The learning rate of a step.

    Args:
        trainer: The settings.
        at: Which step of the training, from 0.
        total: How many steps the training has, if it is not stopped early.

    Example:
        >>> from mlflow_core.spec.network import MLP
        >>> trainer = Torch(module=MLP(), learning_rate=1.0, warmup=0.2, schedule="linear")
        >>> [round(rate(trainer, at, 10), 3) for at in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.125]
    """
    rising = math.ceil(trainer.warmup * total)
    if at < rising:
        return trainer.learning_rate * (at + 1) / rising
    gone = (at - rising) / max(1, total - rising)
    if trainer.schedule == "cosine":
        return trainer.learning_rate * 0.5 * (1 + math.cos(math.pi * gone))
    return trainer.learning_rate * (1 - gone if trainer.schedule == "linear" else 1.0)


def average_decay(decay: float, at: int) -> float:
    """The decay of the moving average after a step: less at first, or it would remember the random start."""
    return min(decay, (1 + at) / (10 + at))
