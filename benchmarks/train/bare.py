"""Loops of plain PyTorch as their users would write them: the network, the batches, AdamW, clipping, nothing else.

Two of them can run side by side in three ways. *Apart* they never hear of each other. *Meeting* they wait for each other
at the end of each step, through two numbers in memory that both have mapped, and exchange nothing: what waits for its
peers in every step takes at least as long, whatever else it does. *Distributed* they are the two processes of PyTorch's
DistributedDataParallel over gloo, each with its share of the same batches.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from mlflow_core.spec import Torch
from mlflow_core.train.data.matrix import build_matrix
from mlflow_core.train.data.profile import merge, profile_shard
from mlflow_core.train.data.shuffle import BlockOrder, batches
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs

__all__ = ["APART", "DISTRIBUTED", "MEETING", "Meeting", "bare_steps"]

APART, MEETING, DISTRIBUTED = "apart", "meeting", "distributed"
LOOPS = 2
PATIENCE_S = 120.0
SAMPLE = 10_000  # rows that the trainer takes the bins of numbers from


def bare_steps(
    trainer: Torch, data: TrainingData, cache: Path, _: Path, order: Mapping[str, Any]
) -> dict[str, Any]:
    """Train as the order says, alone or beside another loop, and say how fast."""
    torch.set_num_threads(order["threads"])
    profiles = [
        profile_shard(path, data.label, data.features, with_features=True) for path in data.files("train")
    ]
    preprocessing, _notes, _label = merge(profiles, data.features, sequences=True)
    stored = build_matrix(data, "train", preprocessing, ("label",), cache, seed=trainer.seed)
    matrix, width = stored.open(), preprocessing.width
    net = build(trainer.module, {}, Inputs.of(preprocessing, matrix[:SAMPLE]), outputs=1, seed=trainer.seed)
    share = order.get("share", {})

    def rows_of(epoch: int) -> Iterator[np.ndarray]:
        blocks = BlockOrder(len(matrix), stored.block, trainer.seed, epoch)
        if share.get("way") == DISTRIBUTED:
            return batches(matrix, blocks, trainer.batch_size, rank=share["index"], ranks=LOOPS)
        return batches(matrix, blocks, trainer.batch_size // (LOOPS if share else 1))

    with _beside(net, share) as (learner, met):
        optimiser = torch.optim.AdamW(
            net.parameters(), lr=trainer.learning_rate, weight_decay=trainer.weight_decay, fused=True
        )
        rows, start, losses, processor = 0, time.perf_counter(), [], time.process_time()
        for epoch in range(trainer.epochs):
            for array in rows_of(epoch):
                batch = torch.from_numpy(array)
                optimiser.zero_grad(set_to_none=True)
                loss = binary_cross_entropy_with_logits(learner(batch[:, :width])[:, 0], batch[:, width])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), trainer.clip or 1.0)
                optimiser.step()
                losses.append(loss.item())
                rows += len(array)
                met()
        taken, processor = time.perf_counter() - start, time.process_time() - processor
    return {
        "rows_per_second": rows / taken,
        "us_a_row": 1e6 * processor / rows,
        "losses": dict(enumerate(losses, 1)),
    }


class Meeting:
    """Two loops that wait for each other, as cheaply as two processes can.

    Args:
        file: Names the memory that both map.
        index: Which loop this is.
    """

    def __init__(self, file: Path, index: int) -> None:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            # A line of the processor's cache for each: writing one's own does not slow the other's reading.
            self._arrived = np.frombuffer(mmap.mmap(descriptor, mmap.PAGESIZE), np.int64)[:16:8]
        finally:
            os.close(descriptor)
        self._own, self._other = index, 1 - index

    def __call__(self) -> None:
        """Wait until the other has been here as often.

        Raises:
            TimeoutError: It does not come.
        """
        self._arrived[self._own] += 1
        wanted, until = self._arrived[self._own], time.monotonic() + PATIENCE_S
        while self._arrived[self._other] < wanted:
            os.sched_yield()
            if time.monotonic() > until:
                raise TimeoutError(f"the other loop did not come within {PATIENCE_S:g} s")


@contextmanager
def _beside(
    net: nn.Module, share: Mapping[str, Any]
) -> Iterator[tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[], None]]]:
    """What is called forward, and at the end of each step; both loops leave here at the same moment."""
    if not share:
        yield net, _never
        return
    meeting = Meeting(Path(share["meet_at"]), share["index"])
    if share["way"] != DISTRIBUTED:
        meeting()
        yield net, meeting if share["way"] == MEETING else _never
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo", init_method=f"file://{share['meet_at']}.store", rank=share["index"], world_size=LOOPS
    )
    try:
        learner = DistributedDataParallel(net)
        meeting()
        yield learner, _never
    finally:
        distributed.destroy_process_group()


def _never() -> None:
    pass
