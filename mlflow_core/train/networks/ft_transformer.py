"""A transformer whose tokens are the row's features.

Gorishniy, Rubachev, Khrulkov, Babenko (2021), Revisiting Deep Learning Models for Tabular Data. As there: one token a
feature and one that is read out, normalisation before each part but the first, ReGLU (Shazeer 2020, GLU Variants
Improve Transformer); the last block computes the token that is read out only. Each position of a sequence is a token.
In training each head overlooks some tokens (Li et al. 2023, DropKey) where the paper drops single weights of attention:
that has no fused kernel on a CPU, and took four times as long.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec
from mlflow_core.train.networks.columns import Categories, Numbers, embedding_table
from mlflow_core.train.networks.initial import linear, uniform
from mlflow_core.train.networks.inputs import Inputs

__all__ = ["Block", "FTTransformer", "Tokens"]

_GROWTH = 4 / 3
"""Width of the hidden layer of a block over the token's: with ReGLU's two halves the paper's default."""


class Tokens(nn.Module):
    """The token that is read out, then one for each feature: (n, inputs.width) to (n, 1 + features, width).

    Args:
        inputs: The columns; each position of a sequence is a feature of its own.
        width: Width of a token.
        generator: Draws the first weights.
    """

    def __init__(self, inputs: Inputs, width: int, generator: torch.Generator) -> None:
        super().__init__()
        inputs = inputs.flattened()
        many, codes, bound = len(inputs.numbers), len(inputs.categories), width**-0.5
        self.read_out = uniform(generator, bound, 1, width)
        self.bias = uniform(generator, bound, many + codes, width)
        self.numbers = Numbers(inputs.numbers, inputs.width) if many else None
        self.weight = uniform(generator, bound, many, width) if many else None
        self.missing = nn.Parameter(torch.zeros(many, width)) if many else None
        self.categories = Categories(inputs.categories, inputs.width) if codes else None
        self.table = embedding_table(self.categories, width, generator) if self.categories else None

    def forward(self, x: Tensor) -> Tensor:
        """A missing number's token is its bias and a learned vector, which starts as zero: that of the mean."""
        parts = []
        if self.numbers is not None and self.weight is not None and self.missing is not None:
            values, missing = self.numbers(x)
            there = values.unsqueeze(-1) * self.weight
            parts.append(torch.where(missing.unsqueeze(-1), self.missing, there))
        if self.categories is not None and self.table is not None:
            parts.append(self.table(self.categories(x)))
        features = torch.cat(parts, dim=1) + self.bias
        return torch.cat([self.read_out.expand(x.shape[0], 1, -1), features], dim=1)


class Block(nn.Module):
    """Attention between the tokens, then a layer on each.

    Args:
        settings: Width, heads, dropout.
        generator: Draws the first weights.
        first: Whether it is the first block, which does not normalise before attention.
        last: Whether it is the last block, of which only the first token is needed.
    """

    def __init__(
        self, settings: spec.FTTransformer, generator: torch.Generator, *, first: bool, last: bool
    ) -> None:
        super().__init__()
        width, hidden = settings.width, round(settings.width * _GROWTH)
        self.heads, self.dropout, self.last = settings.heads, settings.dropout, last
        self.before_attention = nn.Identity() if first else nn.LayerNorm(width)
        self.query = linear(generator, width, width)
        self.key_value = linear(generator, width, 2 * width)
        self.joined = linear(generator, width, width)
        self.before_hidden = nn.LayerNorm(width)
        self.hidden = linear(generator, width, 2 * hidden)
        self.out = linear(generator, hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, tokens, width) to the same, or to (n, 1, width) of the last block."""
        normal = self.before_attention(tokens)
        asked = normal[:, :1] if self.last else normal
        kept = tokens[:, :1] if self.last else tokens
        out = kept + self._attention(asked, normal)
        gate, value = self.hidden(self.before_hidden(out)).chunk(2, dim=-1)
        added: Tensor = self.out(functional.dropout(value * torch.relu(gate), self.dropout, self.training))
        return out + added

    def _attention(self, asked: Tensor, tokens: Tensor) -> Tensor:
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        query, key = self._split(self.query(asked)), self._split(key)
        attended = functional.scaled_dot_product_attention(
            query, key, self._split(value), self._overlooked(key)
        )
        joined: Tensor = self.joined(attended.transpose(1, 2).flatten(2))
        return joined

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(tokens.shape[0], tokens.shape[1], self.heads, -1).transpose(1, 2)

    def _overlooked(self, key: Tensor) -> Tensor | None:
        """What is added to attention, (n, heads, 1, tokens); the token that is read out is never overlooked."""
        if not self.training or not self.dropout:
            return None
        shape = (*key.shape[:2], 1, key.shape[2])
        hidden = torch.rand(shape, device=key.device) < self.dropout
        hidden[..., 0] = False
        return torch.zeros(shape, device=key.device, dtype=key.dtype).masked_fill(hidden, -math.inf)


class FTTransformer(nn.Module):
    """A transformer over the features.

    Args:
        settings: Its sizes.
        inputs: The matrix.
        outputs: Values a row.
        generator: Draws the first weights.

    Raises:
        TrainError: The heads do not divide the width.
    """

    def __init__(
        self, settings: spec.FTTransformer, inputs: Inputs, outputs: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        if settings.width % settings.heads:
            raise TrainError(
                f"a token is {settings.width} wide, which {settings.heads} heads do not divide",
                object="FTTransformer",
                expected="a width that is a multiple of heads",
            )
        self.tokens = Tokens(inputs, settings.width, generator)
        last = settings.blocks - 1
        self.blocks = nn.Sequential(
            *(
                Block(settings, generator, first=place == 0, last=place == last)
                for place in range(settings.blocks)
            )
        )
        self.norm = nn.LayerNorm(settings.width)
        self.head = linear(generator, settings.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) to (n, outputs)."""
        out: Tensor = self.head(torch.relu(self.norm(self.blocks(self.tokens(x))[:, 0])))
        return out
