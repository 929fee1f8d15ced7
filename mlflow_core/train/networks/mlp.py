"""Multilayer perceptrons over a whole row, alone or as an ensemble that shares most weights.

- The plain one, and that a well-made one is hard to beat: Gorishniy, Rubachev, Khrulkov, Babenko (2021), Revisiting
  Deep Learning Models for Tabular Data; Holzmueller, Grinsztajn, Steinwart (2024), Better by Default: Strong
  Pre-Tuned MLPs and Boosted Trees on Tabular Data (RealMLP).
- Members: Gorishniy, Kotelnikov, Babenko (2025), TabM: Advancing Tabular Deep Learning with Parameter-Efficient
  Ensembling; its layers are those of Wen, Tran, Ba (2020), BatchEnsemble.

In training a network with members gives (n, members, outputs), since each member must be held to the label by itself
(the loss is the mean over members); otherwise their mean, (n, outputs).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from mlflow_core.spec import network as spec
from mlflow_core.train.networks.embeddings import Flat
from mlflow_core.train.networks.initial import linear, uniform
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.networks.perceptron import Perceptron

__all__ = ["MLP", "Members", "Shared"]


class Shared(nn.Module):
    """A linear layer that members share but for what each multiplies its input and output by (BatchEnsemble).

    Args:
        inputs: Width of its input.
        outputs: Width of its output.
        members: How many.
        generator: Draws the first weights.
        signs: Whether the members start apart, each with random signs on its input: only the first layer does.
    """

    def __init__(
        self, inputs: int, outputs: int, members: int, generator: torch.Generator, *, signs: bool = False
    ) -> None:
        super().__init__()
        self.linear = linear(generator, inputs, outputs, bias=False)
        before = torch.ones(members, inputs)
        if signs:
            before = torch.randint(0, 2, (members, inputs), generator=generator).float() * 2 - 1
        self.before = nn.Parameter(before)
        self.after = nn.Parameter(torch.ones(members, outputs))
        bias = uniform(generator, inputs**-0.5, outputs)
        self.bias = nn.Parameter(bias.detach().repeat(members, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, members or 1, inputs) to (n, members, outputs)."""
        out: Tensor = self.linear(x * self.before) * self.after + self.bias
        return out


class Members(nn.Module):
    """Perceptrons that share most weights: (n, inputs) to (n, members, outputs).

    Args:
        flat: The layer that it reads.
        settings: Widths, dropout and how many members.
        outputs: Width of its output.
        generator: Draws the first weights.
    """

    def __init__(self, flat: Flat, settings: spec.MLP, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [flat.width, *settings.hidden]
        layers: list[nn.Module] = []
        for place, (a, b) in enumerate(pairwise(widths)):
            shared = Shared(a, b, settings.members, generator, signs=place == 0)
            if place == 0:
                flat.quieten(shared.linear)
            layers += [shared, nn.ReLU(), nn.Dropout(settings.dropout)]
        self.layers = nn.Sequential(*layers)
        self.weight = uniform(generator, widths[-1] ** -0.5, settings.members, widths[-1], outputs)
        self.bias = uniform(generator, widths[-1] ** -0.5, settings.members, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Forward."""
        return torch.einsum("nmi,mio->nmo", self.layers(x.unsqueeze(1)), self.weight) + self.bias


class MLP(nn.Module):
    """A perceptron over embeddings of all columns.

    Args:
        settings: Its sizes.
        inputs: The matrix.
        outputs: Values a row.
        generator: Draws the first weights.
    """

    def __init__(self, settings: spec.MLP, inputs: Inputs, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.flat = Flat(inputs, generator, numbers=settings.numbers, embedding=settings.embedding)
        self.members = settings.members
        self.body: Members | Perceptron = (
            Members(self.flat, settings, outputs, generator)
            if settings.members > 1
            else Perceptron(
                self.flat.width, settings.hidden, outputs, settings.dropout, generator, flat=self.flat
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) to (n, outputs); to (n, members, outputs) in training with members."""
        out: Tensor = self.body(self.flat(x))
        return out if self.members == 1 or self.training else out.mean(dim=1)
