"""Everything that a training goes on from: weights, optimiser, averages, the best so far, and how far it has come.

A checkpoint of it is data: tensors as safetensors, everything else as JSON, nothing pickled. Two things are not in
it because they are functions of seed, step and rank: the learning rate, and random numbers, which are seeded anew
before each step. The order of the rows is a function of seed and epoch. So the position is all there is to keep of
them, and a training that was resumed equals an undisturbed one to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mlflow_core.errors import TrainError
from mlflow_core.train.gang.checkpoints import Checkpoint, Checkpoints
from mlflow_core.train.gang.rank import Disrupted
from mlflow_core.train.torch.peers import Peers

__all__ = ["Position", "State", "agreed", "weights_of"]

_NETWORK, _OPTIMISER, _AVERAGE, _BEST = "network", "optimiser", "average", "best"


@dataclass
class Position:
    """How far a training has come.

    Args:
        epoch: In which epoch it is, from 0.
        step: How many steps of it are done.
        loss: Sum of the weighted losses of this epoch's rows so far.
        weight: Sum of their weights.
        history: Validation loss after each epoch.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    weight: float = 0.0
    history: list[float] = field(default_factory=list)

    @property
    def best(self) -> int | None:
        """The epoch with the least validation loss, the first of equal ones."""
        return self.history.index(min(self.history)) if self.history else None


@dataclass
class State:
    """All of a training.

    Args:
        net: The network.
        optimiser: Its optimiser.
        scaler: What scales losses in half precision.
        average: The moving average of the parameters by name; empty without one.
        best: The weights with the best validation loss, on the CPU; empty before there are any.
        position: How far it has come.
    """

    net: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    position: Position = field(default_factory=Position)

    def files(self) -> dict[str, bytes]:
        """The tensors, as safetensors by name."""
        found = {_NETWORK: weights_of(self.net), _OPTIMISER: self._moments()}
        if self.average:
            found[_AVERAGE] = self.average
        if self.best:
            found[_BEST] = self.best
        return {f"{name}.safetensors": save(_plain(tensors)) for name, tensors in found.items()}

    def facts(self) -> dict[str, Any]:
        """Everything else, JSON-able."""
        return {"position": dict(vars(self.position)), "scaler": self.scaler.state_dict()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainError: It does not fit this network.
        """
        try:
            tensors = {name.partition(".")[0]: load(data) for name, data in checkpoint.files.items()}
            self.net.load_state_dict(tensors[_NETWORK])
            self._restore_moments(tensors[_OPTIMISER])
            for name, one in self.average.items():
                one.copy_(tensors[_AVERAGE][name])
            self.position = Position(**checkpoint.facts["position"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(dict(checkpoint.facts["scaler"]))
        except (KeyError, RuntimeError, TypeError, SafetensorError) as error:
            raise TrainError(
                f"the checkpoint at {checkpoint.at} does not fit the network: {error}",
                hint="Delete it if it was made by another version.",
            ) from error
        self.best = tensors.get(_BEST, {})

    def _named(self) -> dict[str, nn.Parameter]:
        return {name: one for name, one in self.net.named_parameters() if one.requires_grad}

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, one in self._named().items()
            for key, value in self.optimiser.state[one].items()
        }

    def _restore_moments(self, moments: Mapping[str, Tensor]) -> None:
        named = self._named()
        self.optimiser.state.clear()
        for full, value in moments.items():
            name, _, key = full.rpartition("/")
            one = named[name]
            self.optimiser.state[one][key] = value.to(one.device)


def agreed(checkpoints: Checkpoints, peers: Peers) -> Checkpoint | None:
    """The checkpoint that all ranks go on from: rank 0's newest, for shared storage may show others an older folder.

    Args:
        checkpoints: As this rank sees them.
        peers: The other ranks.

    Raises:
        Disrupted: This rank does not see the checkpoint, or a peer is gone.
    """
    last = checkpoints.last()
    told = torch.tensor([-1 if last is None else last.at], device=peers.device)
    peers.copy([told])
    at = int(told)
    if at < 0:
        return None
    found = last if last is not None and last.at == at else checkpoints.at(at)
    if found is None:
        raise Disrupted(f"rank {peers.index} does not see the checkpoint {at} that rank 0 sees")
    return found


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """A network's weights and persistent buffers by name.

    Raises:
        TrainError: It keeps something else than tensors.
    """
    found: dict[str, Any] = net.state_dict()
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise TrainError(
                f'the network keeps "{name}", a {type(value).__name__}',
                expected="tensors only in its state_dict: nothing else can be kept without a pickle",
            )
    return found


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, each with memory of its own: safetensors refuses tied weights."""
    return {
        name: torch.empty_like(one, device="cpu", memory_format=torch.contiguous_format).copy_(one.detach())
        for name, one in tensors.items()
    }
