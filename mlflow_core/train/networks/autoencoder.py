"""A network that rebuilds its own input through a narrow layer; how badly it does so tells how unusual a row is.

Vincent, Larochelle, Bengio, Manzagol (2008), Extracting and Composing Robust Features with Denoising Autoencoders:
in training a share of the inputs is left out, and must be rebuilt from the others. Numbers are rebuilt, categories
only help to: a row's error is the mean squared error over its known, standardised numbers.

What it gives is that error, (n, 1), in training and after: the loss is its mean over rows, and it is the score.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec
from mlflow_core.train.networks.columns import Numbers
from mlflow_core.train.networks.embeddings import Flat
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.networks.perceptron import Perceptron

__all__ = ["Autoencoder"]


class Autoencoder(nn.Module):
    """A denoising autoencoder.

    Args:
        settings: Its sizes.
        inputs: The matrix.
        outputs: 1.
        generator: Draws the first weights.

    Raises:
        TrainError: There is no number to rebuild, or it shall give more than one value.
    """

    def __init__(
        self, settings: spec.Autoencoder, inputs: Inputs, outputs: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        if outputs != 1:
            raise TrainError(
                f"it gives one error a row, not {outputs} values",
                object="Autoencoder",
                expected='the objective "reconstruction"',
            )
        inputs = inputs.flattened()
        if not inputs.numbers:
            raise TrainError("there is no number among the features to rebuild", object="Autoencoder")
        self.dropout = settings.dropout
        self.wanted = Numbers(inputs.numbers, inputs.width)
        self.flat = Flat(inputs, generator)
        hidden = (*settings.hidden, settings.bottleneck, *reversed(settings.hidden))
        self.body = Perceptron(self.flat.width, hidden, len(inputs.numbers), 0.0, generator, flat=self.flat)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) to each row's error, (n, 1); 0 where nothing is known."""
        wanted, missing = self.wanted(x)
        return self._error(self.rebuilt(x), wanted, missing)

    def rebuilt(self, x: Tensor) -> Tensor:
        """The standardised numbers as it rebuilds them, (n, numbers); in training from a part of the input."""
        if self.training and self.dropout:
            x = torch.where(torch.rand_like(x) < self.dropout, math.nan, x)
        rebuilt: Tensor = self.body(self.flat(x))
        return rebuilt

    @staticmethod
    def _error(rebuilt: Tensor, wanted: Tensor, missing: Tensor) -> Tensor:
        known = (~missing).to(torch.float32)
        squared = (rebuilt.float() - wanted) ** 2 * known
        return squared.sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp_min(1.0)
