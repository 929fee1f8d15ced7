"""Embeddings of numbers and of categories, batched over the features: no loop over columns in a forward pass.

- Periodic and piecewise-linear embeddings of numbers: Gorishniy, Rubachev, Babenko (2022), On Embeddings for
  Numerical Features in Tabular Deep Learning (there PLR and Q-LR).
- Embeddings of categories: Guo, Berkhahn (2016), Entity Embeddings of Categorical Variables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mlflow_core.train.networks.columns import CATEGORY_WIDTH, Categories, Numbers, embedding_table
from mlflow_core.train.networks.initial import normal, uniform
from mlflow_core.train.networks.inputs import BINS, Inputs, Number

__all__ = ["Flat", "Periodic", "Piecewise"]

_FREQUENCY = 0.1
"""Standard deviation of the first frequencies, in cycles per standard deviation of the number."""


class Periodic(nn.Module):
    """Sines and cosines of learned frequencies, then a linear layer for each feature, then ReLU (PLR).

    Args:
        features: How many numbers.
        width: Width of each one's embedding, and how many frequencies each has.
        generator: Draws the first weights.
    """

    def __init__(self, features: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.frequency = normal(generator, _FREQUENCY, features, 1, width)
        self.weight = uniform(generator, 1 / math.sqrt(2 * width), features, 2 * width, width)
        self.bias = uniform(generator, 1 / math.sqrt(2 * width), features, 1, width)

    def forward(self, values: Tensor) -> Tensor:
        """(n, features) standardised to (features, n, width)."""
        angle = (2 * math.pi) * self.frequency * values.t().unsqueeze(-1)
        waves = torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
        return torch.relu(torch.baddbmm(self.bias, waves, self.weight))


class Piecewise(nn.Module):
    """How far the number has come through each of its bins, then a linear layer for each feature, then ReLU (Q-LR).

    Args:
        numbers: The features with their bins' edges.
        width: Width of each one's embedding.
        generator: Draws the first weights.
    """

    def __init__(self, numbers: Sequence[Number], width: int, generator: torch.Generator) -> None:
        super().__init__()
        # All have as many, used or not: shapes do not depend on the data, and the weights can be loaded without them.
        edges, bins = [one.scaled_edges for one in numbers], BINS
        lower, step = torch.zeros(len(edges), 1, bins), torch.ones(len(edges), 1, bins)
        first, last = torch.zeros(len(edges), 1, bins), torch.zeros(len(edges), 1, bins)
        for place, one in enumerate(edges):
            known = torch.tensor(one, dtype=torch.float64)
            many = len(one) - 1
            lower[place, 0, :many] = known[:-1].float()
            step[place, 0, :many] = known.diff().clamp_min(1e-6).float()
            first[place, 0, 0], last[place, 0, many - 1] = 1, 1
        unused = torch.arange(bins) >= torch.tensor([len(one) - 1 for one in edges])[:, None]
        # Outside its range a number goes on along the first and the last bin; bins that it does not have stay 0.
        self.register_buffer("lower", lower)
        self.register_buffer("step", step)
        self.register_buffer("floor", torch.where(first > 0, -math.inf, 0.0))
        self.register_buffer("ceiling", torch.where(last > 0, math.inf, (~unused).float()[:, None]))
        self.lower: Tensor
        self.step: Tensor
        self.floor: Tensor
        self.ceiling: Tensor
        self.weight = uniform(generator, 1 / math.sqrt(bins), len(edges), bins, width)
        self.bias = uniform(generator, 1 / math.sqrt(bins), len(edges), 1, width)

    def forward(self, values: Tensor) -> Tensor:
        """(n, features) standardised to (features, n, width)."""
        through = (values.t().unsqueeze(-1) - self.lower) / self.step
        through = torch.minimum(torch.maximum(through, self.floor), self.ceiling)
        return torch.relu(torch.baddbmm(self.bias, through, self.weight))


class Flat(nn.Module):
    """All inputs as one vector: (n, inputs.width) to (n, width).

    Args:
        inputs: The columns; each position of a sequence is taken as a column of its own.
        numbers: How a number enters.
        embedding: Width of a number's embedding; a plain one is 1 wide, beside its indicator of missing.
        generator: Draws the first weights.
    """

    def __init__(
        self,
        inputs: Inputs,
        generator: torch.Generator,
        *,
        numbers: Literal["plain", "periodic", "piecewise"] = "plain",
        embedding: int = 1,
    ) -> None:
        super().__init__()
        inputs = inputs.flattened()
        many = len(inputs.numbers)
        self.numbers = Numbers(inputs.numbers, inputs.width) if many else None
        self.embedded: Periodic | Piecewise | None = None
        self.missing: nn.Parameter | None = None
        if many and numbers != "plain":
            self.embedded = (
                Periodic(many, embedding, generator)
                if numbers == "periodic"
                else Piecewise(inputs.numbers, embedding, generator)
            )
            self.missing = nn.Parameter(torch.zeros(many, 1, embedding))
        self.categories = Categories(inputs.categories, inputs.width) if inputs.categories else None
        self.table = embedding_table(self.categories, CATEGORY_WIDTH, generator) if self.categories else None
        self.indicators = slice(many, 2 * many) if self.embedded is None else slice(0, 0)
        self.width = many * (2 if self.embedded is None else embedding)
        self.width += len(inputs.categories) * CATEGORY_WIDTH

    def forward(self, x: Tensor) -> Tensor:
        """Numbers first, then their indicators, then categories."""
        parts = [*self._numbers(x), *self._categories(x)]
        return torch.cat(parts, dim=1) if len(parts) != 1 else parts[0]

    def quieten(self, first: nn.Linear) -> None:
        """Start a layer that reads this vector with no weight on indicators.

        Where nothing was missing in training, a missing number then counts as the mean, and not as noise.
        """
        with torch.no_grad():
            first.weight[:, self.indicators] = 0.0

    def _numbers(self, x: Tensor) -> list[Tensor]:
        if self.numbers is None:
            return []
        values, missing = self.numbers(x)
        if self.embedded is None:
            return [values, missing.to(values.dtype)]
        assert self.missing is not None
        embedded = self.embedded(values)
        missing = missing.t().unsqueeze(-1)
        embedded = torch.where(missing, self.missing.to(embedded.dtype), embedded)
        return [embedded.transpose(0, 1).flatten(1)]

    def _categories(self, x: Tensor) -> list[Tensor]:
        if self.categories is None or self.table is None:
            return []
        return [self.table(self.categories(x)).flatten(1)]
