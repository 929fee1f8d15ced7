"""From a declaration to a network: a built-in one, or a user's class by import path, checked on two rows.

The first weights depend on the seed only: built-in networks draw from a generator of their own, a user's module from
the process's one, which is seeded for it and put back. What a user's code raises is told as a ``TrainError`` that
names the import path, with the user's own error as its cause.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from mlflow_core.errors import MachineError, TrainError, nearest
from mlflow_core.spec import network as spec
from mlflow_core.train.networks.autoencoder import Autoencoder
from mlflow_core.train.networks.ft_transformer import FTTransformer
from mlflow_core.train.networks.gru import GRU
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.networks.mlp import MLP
from mlflow_core.train.networks.tcn import TCN
from mlflow_core.train.networks.two_tower import TwoTower

__all__ = ["build", "trial_rows"]

_SEEDING = threading.Lock()


def build(
    module: spec.Network | str,
    arguments: Mapping[str, Any],
    inputs: Inputs,
    outputs: int,
    *,
    seed: int = 0,
) -> nn.Module:
    """Make a network with its first weights, on the CPU.

    Args:
        module: One of the built-in networks, or the import path of a ``torch.nn.Module``, e.g.
            ``"my_project.networks:Tower"``, which is called as ``Tower(inputs, outputs, **arguments)``.
        arguments: Arguments of a module named by import path.
        inputs: The matrix that it reads.
        outputs: Values a row.
        seed: Of the first weights: equal seeds give equal weights, whatever else draws.

    Returns:
        A module in training mode, whose ``forward`` takes (n, width) float32, NaN where missing, and gives
        (n, outputs) raw values: logits of a probability. In training ``MLP`` with members gives
        (n, members, outputs), a prediction of each.

    Raises:
        TrainError: The network cannot be made of these inputs; or the import path cannot be imported, is no module,
            does not take the arguments, or gives something else than (n, outputs).

    Example:
        >>> from mlflow_core.spec.network import MLP
        >>> from mlflow_core.train.networks.inputs import Number
        >>> inputs = Inputs(("delay",), numbers=(Number("delay", 0, mean=10.0, std=20.0),))
        >>> build(MLP(), {}, inputs, 1)(torch.tensor([[30.0], [float("nan")]])).shape
        torch.Size([2, 1])
    """
    if isinstance(module, str):
        return _users(module, arguments, inputs, outputs, seed)
    if not inputs.columns:
        raise TrainError("there is no feature to read", object=type(module).__name__)
    generator = torch.Generator().manual_seed(seed)
    match module:
        case spec.MLP():
            return MLP(module, inputs, outputs, generator)
        case spec.FTTransformer():
            return FTTransformer(module, inputs, outputs, generator)
        case spec.GRU():
            return GRU(module, inputs, outputs, generator)
        case spec.TCN():
            return TCN(module, inputs, outputs, generator)
        case spec.Autoencoder():
            return Autoencoder(module, inputs, outputs, generator)
        case spec.TwoTower():
            return TwoTower(module, inputs, outputs, generator)


def trial_rows(inputs: Inputs) -> torch.Tensor:
    """Two rows that any network must take: one as usual, one with everything missing; (2, width)."""
    rows = np.full((2, inputs.width), np.nan, dtype=np.float32)
    for number in inputs.numbers:
        rows[0, number.column] = number.mean
    for category in inputs.categories:
        rows[0, category.column] = 0
    for series in inputs.sequences:
        rows[0, series.column : series.length] = 0 if series.size is not None else series.mean
        rows[:, series.length] = series.positions, 0
    return torch.from_numpy(rows)


def _users(path: str, arguments: Mapping[str, Any], inputs: Inputs, outputs: int, seed: int) -> nn.Module:
    """A user's module. Seeding is locked: torch has one generator, and ranks may share a process."""
    make = _imported(path)
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: nn.Module = _called(path, arguments, lambda: make(inputs, outputs, **arguments))
    _try(path, made, inputs, outputs)
    return made


def _imported(path: str) -> type[nn.Module]:
    package, colon, name = path.partition(":")
    what = f'module "{path}"'
    if not colon or not all(one.isidentifier() for one in (*package.split("."), name)):
        raise TrainError("is no import path", object=what, expected='one such as "my_project.networks:Tower"')
    try:
        imported = importlib.import_module(package)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise MachineError(
            f"cannot be imported: {type(error).__name__}: {error}",
            object=what,
            hint="It must be importable on every worker: install it there, or put its folder on PYTHONPATH.",
        ) from error
    if not hasattr(imported, name):
        public = [one for one in vars(imported) if not one.startswith("_")]
        raise TrainError(f'"{package}" has no "{name}"', object=what, hint=nearest(name, public))
    found = getattr(imported, name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TrainError(
            "is no torch.nn.Module",
            object=what,
            expected="a class that extends torch.nn.Module",
            hint="A model's folder names what is called, so nothing else ever is.",
        )
    made: type[nn.Module] = found
    return made


def _called(path: str, arguments: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # the user's code, which may raise anything
        given = "".join(f", {name}={value!r}" for name, value in arguments.items())
        raise TrainError(
            f"cannot be made: {type(error).__name__}: {error}",
            object=f'module "{path}"',
            expected=f"that it can be called as {path.partition(':')[2]}(inputs, outputs{given})",
        ) from error


def _try(path: str, network: nn.Module, inputs: Inputs, outputs: int) -> None:
    """Ask for two rows, and leave the network as it was."""
    training = network.training
    expected = f"(n, {outputs}) floats of (n, {inputs.width}) float32, NaN where missing"
    network.eval()
    try:
        with torch.no_grad():
            given = network(trial_rows(inputs))
    except Exception as error:  # the user's code, which may raise anything
        raise TrainError(
            f"fails on two trial rows: {type(error).__name__}: {error}",
            object=f'module "{path}"',
            expected=expected,
        ) from error
    finally:
        network.train(training)
    shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    if not isinstance(given, torch.Tensor) or shape != (2, outputs) or not given.is_floating_point():
        kind = f" {given.dtype}" if isinstance(given, torch.Tensor) else ""
        raise TrainError(
            f"gives {shape}{kind} of two trial rows", object=f'module "{path}"', expected=expected
        )
