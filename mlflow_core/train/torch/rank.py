"""What a rank does on its worker: meet the others, open the matrices, build the network, train, leave the weights.

A value that is sent to the workers: settings and paths, no rows. Rank 0 writes checkpoints and, at the end, the
weights, into a folder that the caller reads too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from mlflow_core.errors import MachineError
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.data.matrix import StoredMatrix
from mlflow_core.train.data.origin import Origin, origins
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.rank import Rank
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.torch.loop import Outcome, Training
from mlflow_core.train.torch.objectives import Objective
from mlflow_core.train.torch.peers import Peers
from mlflow_core.train.torch.rendezvous import met
from mlflow_core.train.torch.stream import Columns, Data

__all__ = ["Program", "Trained"]


@dataclass(frozen=True)
class Trained:
    """What a rank tells at its end; the weights are in a file.

    Args:
        history: Validation loss after each epoch.
        best: Which epoch the weights are of.
        steps: How many steps were taken in all.
        rows: How many rows the last attempt has trained on.
        seconds: Time in the last attempt, by what it was spent on.
        device: Where it computed.
    """

    history: tuple[float, ...]
    best: int
    steps: int
    rows: int
    seconds: Mapping[str, float]
    device: str


@dataclass(frozen=True)
class Program:
    """The work of every rank.

    Args:
        trainer: The settings.
        objective: What is learned.
        inputs: What the network is told of the matrix.
        train: The training part.
        validate: The validation part.
        columns: Where in a row is what.
        checkpoints: Those of this training.
        weights: Where rank 0 leaves the weights.
    """

    trainer: Torch
    objective: Objective
    inputs: Inputs
    train: StoredMatrix
    validate: StoredMatrix
    columns: Columns
    checkpoints: Checkpoints
    weights: Path

    def __call__(self, rank: Rank) -> Trained:
        """Train as one of the ranks.

        Raises:
            TrainError: A loss is not a number; as a ``MachineError``, a device, a file or memory is not there.
            Disrupted: A peer is gone.
        """
        for matrix in (self.train, self.validate):
            matrix.check()
        with _threads(rank.threads), met(rank, self.trainer.device) as peers:
            try:
                outcome = self._train(rank, peers)
            except torch.OutOfMemoryError as error:
                raise MachineError(
                    f"the memory of {peers.device} does not suffice: {str(error).splitlines()[0]}",
                    object=f"rank {rank.index}",
                    hint="Use a greater accumulate, a smaller batch_size, or precision='bf16'.",
                ) from error
            if rank.index == 0:
                _leave(outcome, self.weights)
        return Trained(
            outcome.history, outcome.best, outcome.steps, outcome.rows, outcome.seconds, str(peers.device)
        )

    def _train(self, rank: Rank, peers: Peers) -> Outcome:
        trainer = self.trainer
        net = build(trainer.module, trainer.arguments, self.inputs, self.objective.outputs, seed=trainer.seed)
        data = Data(
            self.train.open(),
            self.validate.open(),
            self.columns,
            self.train.block,
            trainer.seed,
            origins=self._origins,
        )
        return Training(
            trainer, self.objective, net, data, rank=rank, peers=peers, checkpoints=self.checkpoints
        ).run()

    def _origins(self, part: str, rows: Sequence[int]) -> tuple[Origin, ...]:
        if part == "train":
            return origins(self.train, rows, seed=self.trainer.seed)
        return origins(self.validate, rows, seed=None)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """While torch uses so many threads; workers start with one, because most of their work is not torch's."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _leave(outcome: Outcome, path: Path) -> None:
    aside = path.with_suffix(".part")
    save_file({name: one.contiguous().clone() for name, one in outcome.weights.items()}, aside)
    os.replace(aside, path)  # noqa: PTH105 the atomic one
