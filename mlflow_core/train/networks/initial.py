"""First weights, drawn from a generator that is passed in: no draw of another thread can change them.

``torch.nn`` draws from the process's one generator when a layer is made; several ranks may live in one process, so
layers are made empty here and filled from the caller's own. The laws are those of ``torch.nn`` (He et al. 2015,
Delving Deep into Rectifiers, with a = sqrt(5), which is uniform within 1/sqrt(inputs)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["conv", "gru", "linear", "normal", "uniform"]


def uniform(generator: torch.Generator, bound: float, *shape: int) -> nn.Parameter:
    """A parameter that is uniform in (-bound, bound)."""
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def normal(generator: torch.Generator, std: float, *shape: int) -> nn.Parameter:
    """A parameter that is normal around 0."""
    return nn.Parameter(torch.empty(shape).normal_(0.0, std, generator=generator))


def linear(generator: torch.Generator, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer."""
    made = nn.Linear(inputs, outputs, bias=bias, device="meta").to_empty(device="cpu")
    _fill(generator, inputs, made.weight, *([made.bias] if bias else []))
    return made


def conv(generator: torch.Generator, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    """A convolution over time without padding."""
    made = nn.Conv1d(inputs, outputs, kernel, dilation=dilation, device="meta").to_empty(device="cpu")
    assert made.bias is not None
    _fill(generator, inputs * kernel, made.weight, made.bias)
    return made


def gru(generator: torch.Generator, inputs: int, hidden: int, layers: int, dropout: float) -> nn.GRU:
    """A gated recurrent network over (rows, steps, inputs)."""
    between = dropout if layers > 1 else 0.0
    made = nn.GRU(inputs, hidden, num_layers=layers, batch_first=True, dropout=between, device="meta")
    made.to_empty(device="cpu")
    _fill(generator, hidden, *made.parameters())
    return made


def _fill(generator: torch.Generator, inputs: int, *parameters: Tensor) -> None:
    bound = 1 / math.sqrt(max(inputs, 1))
    with torch.no_grad():
        for parameter in parameters:
            parameter.uniform_(-bound, bound, generator=generator)
