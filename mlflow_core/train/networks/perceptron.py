"""A plain multilayer perceptron: linear, ReLU, dropout, and a linear layer at the end.

Rumelhart, Hinton, Williams (1986), Learning representations by back-propagating errors; dropout: Srivastava et al.
(2014), Dropout: A Simple Way to Prevent Neural Networks from Overfitting.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mlflow_core.train.networks.embeddings import Flat
from mlflow_core.train.networks.initial import linear

__all__ = ["Perceptron"]


class Perceptron(nn.Module):
    """(n, inputs) to (n, outputs).

    Args:
        inputs: Width of its input.
        hidden: Width of each hidden layer.
        outputs: Width of its output.
        dropout: Share of the hidden units left out in training.
        generator: Draws the first weights.
        flat: The layer that its input begins with, of whose indicators of missing it starts without weights.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        dropout: float,
        generator: torch.Generator,
        *,
        flat: Flat | None = None,
    ) -> None:
        super().__init__()
        widths = [inputs, *hidden, outputs]
        linears = [linear(generator, a, b) for a, b in pairwise(widths)]
        if flat is not None:
            flat.quieten(linears[0])
        layers: list[nn.Module] = []
        for one in linears[:-1]:
            layers += [one, nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        self.layers = nn.Sequential(*layers, linears[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Forward."""
        out: Tensor = self.layers(x)
        return out
