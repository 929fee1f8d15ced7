"""A gated recurrent network over sequences; its last state and the other features go through a perceptron.

Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio (2014), Learning Phrase Representations using RNN
Encoder-Decoder for Statistical Machine Translation. Steps go in oldest first and padding after them, and the state
is read at the last real step, so that padding cannot reach it; an empty sequence has the state zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlflow_core.spec import network as spec
from mlflow_core.train.networks.embeddings import Flat
from mlflow_core.train.networks.initial import gru
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.networks.perceptron import Perceptron
from mlflow_core.train.networks.steps import Steps, need_sequences

__all__ = ["GRU"]


class GRU(nn.Module):
    """A recurrent network over the sequences beside a perceptron over the others.

    Args:
        settings: Its sizes.
        inputs: The matrix.
        outputs: Values a row.
        generator: Draws the first weights.

    Raises:
        TrainError: There is no sequence among the features.
    """

    def __init__(self, settings: spec.GRU, inputs: Inputs, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        need_sequences(inputs, "GRU")
        self.steps = Steps(inputs, generator)
        self.recurrent = gru(generator, self.steps.width, settings.hidden, settings.layers, settings.dropout)
        self.flat = Flat(inputs.without_sequences(), generator)
        width = self.flat.width + settings.hidden
        self.head = Perceptron(width, settings.head, outputs, settings.dropout, generator, flat=self.flat)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) to (n, outputs)."""
        steps, many = self.steps.left(*self.steps(x))
        states, _ = self.recurrent(steps)
        newest = (many - 1).clamp_min(0).reshape(-1, 1, 1).expand(-1, 1, states.shape[2])
        state = states.gather(1, newest).squeeze(1) * (many > 0).unsqueeze(1)
        out: Tensor = self.head(torch.cat([self.flat(x), state], dim=1))
        return out
