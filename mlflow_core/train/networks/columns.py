"""The input layer: picks columns from the matrix, standardises numbers, turns codes into rows of one table.

Missing is told apart from every value: a missing number is 0 beside an indicator, a missing or unseen category has a
row of its own in the table. Positions of a sequence beyond its true length are missing, whatever the matrix holds
there. The naive version of all this, a loop over rows and columns, is in ``tests/oracle/inputs.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlflow_core.train.networks.initial import uniform
from mlflow_core.train.networks.inputs import LIMIT, Category, Number

__all__ = ["CATEGORY_WIDTH", "Categories", "Numbers", "Picked", "embedding_table", "standardised"]

CATEGORY_WIDTH = 16
"""Width of a category's embedding."""


class Picked(nn.Module):
    """Some columns of the matrix, padding blanked: (n, width) to (n, columns), NaN where missing.

    Args:
        columns: What to pick, in order.
        width: Columns of the matrix.
    """

    def __init__(self, columns: Sequence[Number | Category], width: int) -> None:
        super().__init__()
        places = [one.column for one in columns]
        self.all = places == list(range(width))
        self.padded = any(one.length is not None for one in columns)
        lengths = [one.column if one.length is None else one.length for one in columns]
        ages = [-math.inf if one.length is None else float(one.age) for one in columns]
        self.register_buffer("places", torch.tensor(places, dtype=torch.int64), persistent=False)
        self.register_buffer("lengths", torch.tensor(lengths, dtype=torch.int64), persistent=False)
        self.register_buffer("ages", torch.tensor(ages), persistent=False)
        self.places: Tensor
        self.lengths: Tensor
        self.ages: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Pick."""
        picked = x if self.all else x.index_select(1, self.places)
        if not self.padded:
            return picked
        # An unknown length compares false, as an unknown value of a plain column does: both are missing.
        return torch.where(x.index_select(1, self.lengths) >= self.ages, picked, math.nan)


class Numbers(nn.Module):
    """Standardised numbers and which of them are missing: (n, width) to (n, numbers) float32 and bool.

    Args:
        numbers: The columns.
        width: Columns of the matrix.
    """

    def __init__(self, numbers: Sequence[Number], width: int) -> None:
        super().__init__()
        self.picked = Picked(numbers, width)
        self.register_buffer("mean", torch.tensor([one.mean for one in numbers], dtype=torch.float32))
        self.register_buffer("scale", torch.tensor([one.scale for one in numbers], dtype=torch.float32))
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise; a missing one is 0."""
        picked = self.picked(x)
        return standardised(picked, self.mean, self.scale), torch.isnan(picked)


class Categories(nn.Module):
    """Rows of one embedding table for all categories: (n, width) to (n, categories) int64.

    Args:
        categories: The columns; the positions of one sequence share their part of the table.
        width: Columns of the matrix.
    """

    def __init__(self, categories: Sequence[Category], width: int) -> None:
        super().__init__()
        self.picked = Picked(categories, width)
        self.rows = 0
        firsts: dict[int, int] = {}
        for one in categories:
            if _part(one) not in firsts:
                firsts[_part(one)] = self.rows
                self.rows += one.size + 1
        starts = [firsts[_part(one)] for one in categories]
        self.unseen = tuple(firsts.values())
        self.register_buffer("sizes", torch.tensor([float(one.size) for one in categories]), persistent=False)
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self.sizes: Tensor
        self.starts: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Look up; the first row of each part is for what is missing or was never seen."""
        code = self.picked(x)
        known = (code >= 0) & (code < self.sizes)
        return torch.where(known, code, -1.0).to(torch.int64) + 1 + self.starts


def standardised(values: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Distance from the mean in standard deviations, within ``LIMIT``; 0 where missing."""
    # nan_to_num also catches inf * 0: a greatest float32 less a negative mean, of a constant column.
    return torch.nan_to_num((values - mean) * scale, nan=0.0).clamp(-LIMIT, LIMIT)


def embedding_table(categories: Categories, width: int, generator: torch.Generator) -> nn.Embedding:
    """The table; rows for the unseen start as zeros, so that where nothing was missing, missing tells nothing."""
    weight = uniform(generator, 1 / math.sqrt(width), categories.rows, width)
    with torch.no_grad():
        weight[list(categories.unseen)] = 0.0
    return nn.Embedding(categories.rows, width, _weight=weight)


def _part(category: Category) -> int:
    """One number for all columns that share a part: a sequence's length column is no category's column."""
    return category.column if category.length is None else category.length
