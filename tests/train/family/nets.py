"""A user's network that ends badly in the training of one entity's own model, and there only."""

from __future__ import annotations

import os
import signal

import torch
from torch import Tensor, nn

FAR = 5000.0
"""A gust that only the rows of the entity that is to fail have."""


class Failing(nn.Module):
    """Logistic regression, until it is alone with a carrier one of whose gusts is beyond all measure."""

    def __init__(self, inputs: object, outputs: int, how: str) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs.width, outputs)
        self.how = how
        self.gust = next(one.column for one in inputs.numbers if one.name == "gust")
        self.alone = next(one.size for one in inputs.categories if one.name == "carrier") == 1

    def forward(self, x: Tensor) -> Tensor:
        if self.alone and (x[:, self.gust] >= FAR).any():
            _end(self.how)
        return self.linear(torch.nan_to_num(x).clamp(-50, 50) / 50)


def _end(how: str) -> None:
    match how:
        case "memory":
            raise MemoryError("cannot allocate 3 GiB")
        case "disk":
            raise OSError(28, "No space left on device")
        case "mistake":
            raise ZeroDivisionError("a mistake in the network")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
