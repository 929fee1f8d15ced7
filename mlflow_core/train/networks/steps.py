"""Sequences as tensors: what happened at each step, oldest first, and how many steps are real.

Several sequences stand side by side with their newest steps together; a step is real if it is in any of them. The
matrix holds them at the right (newest last) and a network that reads from the left wants them at the left, padding
after them: ``Steps`` moves them. What is in the padding never matters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlflow_core.errors import TrainError
from mlflow_core.train.networks.columns import CATEGORY_WIDTH, Categories, embedding_table, standardised
from mlflow_core.train.networks.inputs import Category, Inputs, Series

__all__ = ["Steps", "need_sequences"]


class Steps(nn.Module):
    """(n, inputs.width) to (n, steps, width) float32, newest last, zero where padded, and (n, steps) bool of the real.

    Args:
        inputs: The columns, at least one sequence among them.
        generator: Draws the first weights.
    """

    def __init__(self, inputs: Inputs, generator: torch.Generator) -> None:
        super().__init__()
        self.steps = max(one.positions for one in inputs.sequences)
        numbers = [one for one in inputs.sequences if one.size is None]
        coded = [one for one in inputs.sequences if one.size is not None]
        self.counted = len(numbers)
        self.register_buffer("lengths", _long([one.length for one in inputs.sequences]), persistent=False)
        self.register_buffer("ages", torch.arange(self.steps, 0, -1, dtype=torch.float32), persistent=False)
        self.register_buffer("places", _long([self._places(one) for one in numbers]), persistent=False)
        self.register_buffer("number_lengths", _long([one.length for one in numbers]), persistent=False)
        self.register_buffer("number_ages", self._ages(numbers), persistent=False)
        self.register_buffer("mean", _column([one.mean for one in numbers]))
        self.register_buffer("scale", _column([_scale(one) for one in numbers]))
        self.lengths: Tensor
        self.ages: Tensor
        self.places: Tensor
        self.number_lengths: Tensor
        self.number_ages: Tensor
        self.mean: Tensor
        self.scale: Tensor
        positions = [self._category(one, step) for step in range(self.steps) for one in coded]
        self.categories = Categories(positions, inputs.width) if coded else None
        self.table = embedding_table(self.categories, CATEGORY_WIDTH, generator) if self.categories else None
        self.coded = CATEGORY_WIDTH * len(coded)
        self.width = 2 * self.counted + self.coded

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A step's channels: numbers, their indicators of missing, categories."""
        real = (x.index_select(1, self.lengths).unsqueeze(-1) >= self.ages).any(dim=1)
        parts = []
        if self.counted:
            values = x.index_select(1, self.places.flatten()).reshape(-1, self.counted, self.steps)
            there = x.index_select(1, self.number_lengths).unsqueeze(-1) >= self.number_ages
            values = torch.where(there, values, math.nan)
            parts += [standardised(values, self.mean, self.scale), torch.isnan(values).to(values.dtype)]
        channels = [torch.cat(parts, dim=1).transpose(1, 2)] if parts else []
        if self.categories is not None and self.table is not None:
            channels.append(self.table(self.categories(x)).reshape(-1, self.steps, self.coded))
        return torch.cat(channels, dim=2) * real.unsqueeze(-1), real

    def left(self, steps: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Move the real steps to the left.

        Args:
            steps: (n, steps, width), newest last.
            real: (n, steps).

        Returns:
            (n, steps, width) with the oldest real step first, and (n,) how many are real.
        """
        many = real.sum(dim=1)
        place = torch.arange(self.steps, device=steps.device) + (self.steps - many).unsqueeze(1)
        place = place.remainder(self.steps).unsqueeze(-1).expand(-1, -1, steps.shape[2])
        return steps.gather(1, place), many

    def _places(self, series: Series) -> list[int]:
        """Columns of its steps; a step that it does not have reads its oldest, and is never real."""
        lacking = self.steps - series.positions
        return [series.column + max(step - lacking, 0) for step in range(self.steps)]

    def _ages(self, series: list[Series]) -> Tensor:
        ages = [
            [float(age) if age <= one.positions else math.inf for age in range(self.steps, 0, -1)]
            for one in series
        ]
        return torch.tensor(ages).reshape(len(series), self.steps)

    def _category(self, series: Series, step: int) -> Category:
        lacking = self.steps - series.positions
        size = series.size or 0
        if step < lacking:
            return Category(series.name, series.column, size, series.length, series.positions + self.steps)
        return Category(series.name, series.column + step - lacking, size, series.length, self.steps - step)


def need_sequences(inputs: Inputs, network: str) -> None:
    """Refuse inputs without a sequence.

    Raises:
        TrainError: There is none.
    """
    if not inputs.sequences:
        raise TrainError(
            "there is no sequence among the features",
            object=network,
            expected="a feature that is a list, such as the aggregate last(10)",
            hint="Use an MLP or an FTTransformer for features of one value.",
        )


def _scale(series: Series) -> float:
    one = series.at(0)
    return 1.0 if isinstance(one, Category) else one.scale


def _long(values: list[int] | list[list[int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1)
