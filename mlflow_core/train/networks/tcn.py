"""A temporal convolutional network over sequences; its newest step and the other features go through a perceptron.

Bai, Kolter, Koltun (2018), An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
Modeling: causal convolutions, two a level, dilation doubled from level to level, a residual around each level. It
leaves out the paper's weight normalisation. Padding is set to zero again after each level, so that a sequence gives
the same in a wider matrix.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlflow_core.spec import network as spec
from mlflow_core.train.networks.embeddings import Flat
from mlflow_core.train.networks.initial import conv
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.networks.perceptron import Perceptron
from mlflow_core.train.networks.steps import Steps, need_sequences

__all__ = ["TCN", "Level"]


class Level(nn.Module):
    """Two causal convolutions with a residual around them.

    Args:
        inputs: Its input's channels.
        outputs: Its output's channels.
        kernel: Width of a convolution.
        dilation: Steps between its taps.
        dropout: Share of the hidden units left out in training.
        generator: Draws the first weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        dilation: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.past, self.dropout = (kernel - 1) * dilation, dropout
        self.first = conv(generator, inputs, outputs, kernel, dilation)
        self.second = conv(generator, outputs, outputs, kernel, dilation)
        self.around = conv(generator, inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """(n, inputs, steps) and (n, 1, steps) to (n, outputs, steps)."""
        out = self._convolved(self.first, x) * real
        out = self._convolved(self.second, out)
        return torch.relu(out + self.around(x)) * real

    def _convolved(self, layer: nn.Conv1d, x: Tensor) -> Tensor:
        out = torch.relu(layer(functional.pad(x, (self.past, 0))))
        return functional.dropout(out, self.dropout, self.training)


class TCN(nn.Module):
    """Causal convolutions over the sequences beside a perceptron over the others.

    Args:
        settings: Its sizes.
        inputs: The matrix.
        outputs: Values a row.
        generator: Draws the first weights.

    Raises:
        TrainError: There is no sequence among the features.
    """

    def __init__(self, settings: spec.TCN, inputs: Inputs, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        need_sequences(inputs, "TCN")
        self.steps = Steps(inputs, generator)
        widths = [self.steps.width, *settings.channels]
        self.levels = nn.ModuleList(
            Level(a, b, settings.kernel, 2**place, settings.dropout, generator)
            for place, (a, b) in enumerate(pairwise(widths))
        )
        self.flat = Flat(inputs.without_sequences(), generator)
        self.head = Perceptron(
            self.flat.width + widths[-1], settings.head, outputs, settings.dropout, generator, flat=self.flat
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) to (n, outputs)."""
        steps, real = self.steps(x)
        mask = real.unsqueeze(1)
        channels = steps.transpose(1, 2)
        for level in self.levels:
            channels = level(channels, mask)
        out: Tensor = self.head(torch.cat([self.flat(x), channels[:, :, -1]], dim=1))
        return out
