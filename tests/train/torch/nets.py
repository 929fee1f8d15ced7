"""Networks that a user might write: one that works, and some that do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """Logistic regression on what is known."""

    def __init__(self, inputs: object, outputs: int, normed: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs.width) if normed else nn.Identity()
        self.linear = nn.Linear(inputs.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(torch.nan_to_num(x)))


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self, inputs: object, outputs: int) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(inputs.width, inputs.width), nn.Linear(inputs.width, inputs.width)
        self.other.weight = self.one.weight
        self.last = nn.Linear(inputs.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.other(torch.relu(self.one(torch.nan_to_num(x) / 50))))


class Fragile(Linear):
    """Gives NaN for rows whose first column is greater than a limit."""

    def __init__(self, inputs: object, outputs: int, limit: float) -> None:
        super().__init__(inputs, outputs)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 50) + torch.where(x[:, :1] > self.limit, torch.nan, 0.0)


class Rare(Linear):
    """Asks one of its layers only in batches with a row whose first column is greater than a limit."""

    def __init__(self, inputs: object, outputs: int, limit: float) -> None:
        super().__init__(inputs, outputs)
        self.rare, self.limit = nn.Linear(inputs.width, outputs), limit

    def forward(self, x: Tensor) -> Tensor:
        out, asked = super().forward(x), x[:, 0] > self.limit
        if asked.any():
            out = out.index_add(0, asked.nonzero()[:, 0], self.rare(torch.nan_to_num(x[asked])))
        return out


class Steep(Linear):
    """A finite loss whose gradient is not: the slope of a square root at 0."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x / 50)
        return out + torch.sqrt((out - out).abs())


class Late(Linear):
    """Two rows pass, more do not have the shape that was promised."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if len(x) == 2 else out[:, 0]


class Keeping(Linear):
    """Keeps what is no tensor."""

    def get_extra_state(self) -> object:
        return {"seen": 3}

    def set_extra_state(self, state: object) -> None:
        assert state
