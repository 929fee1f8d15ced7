"""What a network learns: the loss of each row, and how its raw outputs are read as predictions afterwards.

A loss is given per row, so that rows can be weighed and a row that spoils it can be named; it is computed in float32
whatever the network computes in. A regression or quantile label is standardised here and nowhere else: the network
learns the standardised one, the scorer multiplies back, and losses are told in the label's own units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.models.network import Link
from mlflow_core.train.models.scorer import Task

__all__ = ["Learner", "Objective"]


@dataclass(frozen=True)
class Objective:
    """What is learned.

    Args:
        name: As the trainer names it.
        task: What the predictions are.
        outputs: Raw values a row.
        link: What makes predictions of them.
        names: Their names where there are several a row, else empty.
        quantiles: The quantiles, if it learns those.
        mean: What the label is shifted by before it is learned.
        std: What it is divided by then.
    """

    name: str
    task: Task
    outputs: int
    link: Link = "none"
    names: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, trainer: Torch, mean: float = 0.0, std: float = 1.0) -> Objective:
        """Read it from a trainer's settings.

        Args:
            trainer: The settings.
            mean: The label's mean in the training part.
            std: Its standard deviation there; a label of one value is not divided.
        """
        name, scale = trainer.objective, std or 1.0
        if name == "binary":
            return cls(name, "classification", 1, "sigmoid")
        if name == "multiclass":
            classes = trainer.classes or 0
            return cls(name, "multiclass", classes, "softmax", tuple(str(one) for one in range(classes)))
        if name == "regression":
            return cls(name, "regression", 1, mean=mean, std=scale)
        if name == "quantile":
            levels = trainer.quantiles
            names = tuple(f"{one:g}" for one in levels) if len(levels) > 1 else ()
            return cls(name, "quantile", len(levels), "none", names, levels, mean, scale)
        return cls(name, "anomaly" if name == "reconstruction" else "ranking", 1)

    @property
    def labelled(self) -> bool:
        """Whether it needs a label."""
        return self.name not in ("reconstruction", "retrieval")

    @property
    def unit(self) -> float:
        """What a loss is multiplied by to be in the label's own units."""
        return self.std**2 if self.name == "regression" else self.std


class Learner(nn.Module):
    """A network together with its loss: rows in, the loss of each row out.

    One module, so that what wraps modules (gradients that are averaged while they are computed) wraps the loss too.

    Args:
        net: (n, width) to (n, outputs), or to (n, members, outputs) of members that each learn by themselves. For
            ``reconstruction`` its output is the error of each row, (n, 1). For ``retrieval`` it has a method
            ``towers`` that gives both sides, (n, 2, width), whose inner products are the logits.
        objective: The loss.
    """

    def __init__(self, net: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.net = net
        self.objective = objective
        self.loss = _LOSSES[objective.name]

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The loss of each row, (n,) float32.

        Args:
            x: (n, width) float32, missing values NaN.
            y: (n,) float32, or None where nothing is labelled.

        Raises:
            TrainError: The network's output is of another shape than the objective needs.
        """
        if self.objective.name == "retrieval":
            return _retrieved(self.net, x)
        out: Tensor = self.net(x)
        members = _members(out, len(x), self.objective)
        if members == 1:
            return self.loss(out.float().flatten(1), y, self.objective)
        if y is not None:
            y = y.repeat_interleave(members)
        losses = self.loss(out.float().flatten(0, 1), y, self.objective)
        return losses.view(len(x), members).mean(dim=1)


def _members(out: Tensor, rows: int, objective: Objective) -> int:
    shape, outputs = tuple(out.shape), objective.outputs
    if shape == (rows, outputs):
        return 1
    if len(shape) == 3 and (shape[0], shape[2]) == (rows, outputs):
        return int(shape[1])
    raise TrainError(
        f"the network gives values of shape {shape} for {rows} rows",
        expected=f'({rows}, {outputs}) for the objective "{objective.name}"',
    )


def _binary(out: Tensor, y: Any, objective: Objective) -> Tensor:  # noqa: ARG001 the same for every loss
    return functional.binary_cross_entropy_with_logits(out[:, 0], y, reduction="none")


def _multiclass(out: Tensor, y: Any, objective: Objective) -> Tensor:  # noqa: ARG001 the same for every loss
    return functional.cross_entropy(out, y.long(), reduction="none")


def _regression(out: Tensor, y: Any, objective: Objective) -> Tensor:
    wanted: Tensor = (y - objective.mean) / objective.std
    return (out[:, 0] - wanted).square()


def _quantile(out: Tensor, y: Any, objective: Objective) -> Tensor:
    """Pinball loss, summed over the quantiles (Koenker, Bassett 1978)."""
    above = ((y - objective.mean) / objective.std)[:, None] - out
    q = torch.tensor(objective.quantiles, device=out.device)
    return torch.maximum(q * above, (q - 1) * above).sum(dim=1)


def _reconstruction(out: Tensor, y: Any, objective: Objective) -> Tensor:  # noqa: ARG001 the same for every loss
    return out[:, 0]


def _retrieved(net: Any, x: Tensor) -> Tensor:
    """Softmax over the right sides of the rank's share of the batch; all but its own are negatives (Yi et al. 2019)."""
    sides: Tensor = net.towers(x).float()
    logits = sides[:, 0] @ sides[:, 1].t()
    return functional.cross_entropy(logits, torch.arange(len(x), device=x.device), reduction="none")


_LOSSES: dict[str, Callable[[Tensor, Any, Objective], Tensor]] = {
    "binary": _binary,
    "multiclass": _multiclass,
    "regression": _regression,
    "quantile": _quantile,
    "reconstruction": _reconstruction,
    "retrieval": _reconstruction,
}
