"""Programs for ranks, made of the trainer's parts: small enough to see what each does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlflow_core.spec.trainer import Torch
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.rank import Rank
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs, Number
from mlflow_core.train.torch.loop import Training
from mlflow_core.train.torch.objectives import Objective
from mlflow_core.train.torch.rendezvous import Device, met
from mlflow_core.train.torch.stream import Columns, Data


def rows(count: int, seed: int) -> np.ndarray:
    """Five features and a label, (count, 6) float32."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 5)).astype(np.float32)
    y = (random.random(count) < 1 / (1 + np.exp(-2 * x[:, 0] + x[:, 1]))).astype(np.float32)
    return np.column_stack([x, y])


@dataclass(frozen=True)
class Trains:
    """Trains on rows that it makes itself, its gradients summed in a way that the test chooses."""

    trainer: Torch
    folder: Path
    overlap: bool | None
    device: Device = "cpu"

    def __call__(self, rank: Rank) -> Mapping[str, object]:
        columns = Columns(width=5, label=5)
        data = Data(rows(1001, 1), rows(300, 2), columns, block=16, seed=3, origins=lambda part, places: ())
        inputs = Inputs(tuple("abcde"), numbers=tuple(Number(one, n) for n, one in enumerate("abcde")))
        net = build(self.trainer.module, {}, inputs, 1, seed=self.trainer.seed)
        checkpoints = Checkpoints(self.folder, "test")
        with met(rank, self.device) as peers:
            outcome = Training(
                self.trainer,
                Objective.of(self.trainer),
                net,
                data,
                rank=rank,
                peers=peers,
                checkpoints=checkpoints,
                overlap=self.overlap,
            ).run()
        weights = {name: one.numpy() for name, one in outcome.weights.items()}
        return {"history": outcome.history, "weights": weights, "device": str(peers.device)}


@dataclass(frozen=True)
class Leaves:
    """Sums for ever, until one rank ends in some way; tells how the others learn of it."""

    how: str
    shared: bool = False

    def __call__(self, rank: Rank) -> str:
        with met(rank, "cpu") as peers:
            shared = peers.summing(3) if self.shared else None
            for turn in range(1_000_000):
                if rank.stopped():
                    return "stopped"
                if rank.index == 1 and turn == 50 and rank.attempt == 0:
                    if self.how == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise ValueError("left")
                values = torch.ones(3)
                if shared is None:
                    peers.sum(values)
                else:
                    shared([values[:1], values[1:]], values)
                assert values.tolist() == [2.0, 2.0, 2.0]
                if rank.attempt and turn == 60:
                    return "done"
        return "never"


@dataclass(frozen=True)
class Sleeps:
    """Meets the others and leaves again; tells how many threads and groups are there before and after."""

    def __call__(self, rank: Rank) -> tuple[bool, bool, int]:
        with met(rank, "auto") as peers:
            within = torch.distributed.is_initialized()
            peers.sum(torch.zeros(1))
            time.sleep(0.01)
        return within, torch.distributed.is_initialized(), peers.count
