"""The training loop of a rank: the same steps for any number of ranks, each stopped, told, measured and kept.

The batch of a step is that of all ranks together: the sum of the rows' losses is divided by the weight of all of its
rows, wherever they are, so that the number of ranks changes nothing but rounding. A step whose loss or gradient is
not a number is never taken. Plain PyTorch in the tests is what this is held to.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from mlflow_core.spec.trainer import Torch
from mlflow_core.train.data.origin import Origin
from mlflow_core.train.data.shuffle import steps
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.rank import CHECKPOINT, Rank
from mlflow_core.train.torch.blame import Suspects, accuse
from mlflow_core.train.torch.gradients import gradients
from mlflow_core.train.torch.objectives import Learner, Objective
from mlflow_core.train.torch.optimise import average_decay, optimiser, rate
from mlflow_core.train.torch.peers import Peers
from mlflow_core.train.torch.state import State, agreed, weights_of
from mlflow_core.train.torch.stream import Batch, Data, Stream

__all__ = ["GivenUp", "Outcome", "Training"]

_TELL_EVERY_S = 0.5
_TELL_TIMES = 50
_EPS = 1e-6  # what torch's clipping adds to a norm before it divides by it


class GivenUp(Exception):
    """The rank was told to stop."""


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Args:
        history: Validation loss after each epoch, in the label's units.
        best: Which epoch the weights are of.
        steps: How many steps were taken in all, by this and earlier attempts.
        rows: How many rows this attempt has trained on, over all ranks.
        seconds: Time of this rank in this attempt, by what it was spent on; ``processor`` is what its process
            computed for in the steps, which other processes of the machine change little.
        weights: The network's weights by name.
    """

    history: tuple[float, ...]
    best: int
    steps: int
    rows: int
    seconds: Mapping[str, float]
    weights: Mapping[str, Tensor] = field(repr=False)


class Training:
    """A rank's part in a training.

    Args:
        trainer: The settings.
        objective: What is learned.
        net: The network with its first weights, equal on all ranks; it is moved to the peers' device.
        data: The rows.
        rank: Which rank this is, whom it tells, and when it stops.
        peers: The other ranks.
        checkpoints: Where to go on from, and what rank 0 writes to.
        overlap: See ``gradients``.
    """

    def __init__(
        self,
        trainer: Torch,
        objective: Objective,
        net: nn.Module,
        data: Data,
        *,
        rank: Rank,
        peers: Peers,
        checkpoints: Checkpoints,
        overlap: bool | None = None,
    ) -> None:
        self.trainer, self.objective, self.data = trainer, objective, data
        self._rank, self._peers, self._checkpoints = rank, peers, checkpoints
        self.net = net.to(peers.device)
        self.learner = Learner(self.net, objective)
        peers.copy([*self.net.parameters(), *self.net.buffers()])
        self._gradients = gradients(self.learner, peers, overlap=overlap)
        self._learning = {name: one for name, one in self.net.named_parameters() if one.requires_grad}
        average = {} if trainer.ema is None else {n: p.detach().clone() for n, p in self._learning.items()}
        half = trainer.precision == "fp16"
        self.state = State(
            self.net,
            optimiser(self.net, trainer),
            torch.amp.GradScaler(peers.device.type, enabled=half),
            average,
        )
        self._mixed = torch.autocast(
            peers.device.type,
            dtype=torch.float16 if half else torch.bfloat16,
            enabled=trainer.precision != "float32",
        )
        self._steps = steps(len(data.train), trainer.batch_size)
        self._total = self._steps * trainer.epochs
        self._every = trainer.checkpoint_every or self._steps
        self._tell_every = max(1, self._total // _TELL_TIMES)
        self._unchecked: list[tuple[int, int, Tensor, Tensor]] = []
        self._loss = 0.0
        self._told_rows, self._told_at, self._rows = 0, time.monotonic(), 0
        self._seconds = dict.fromkeys(("data", "checkpoints", "validation"), 0.0)
        self._processor = 0.0
        self._parts = max(1, trainer.accumulate)

    def run(self) -> Outcome:
        """Train to the end, or to where it is stopped early.

        Raises:
            TrainError: A loss is not a number; names the step and the rows.
            Disrupted: A peer is gone.
            GivenUp: The rank was told to stop.
        """
        start = time.perf_counter()
        device = self._peers.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._peers.watched():
            self._resume()
            going = not self._finished()
            while not self._finished():
                self._epoch()
                self._validate()
            if going:  # else it was kept before: whoever comes again to the end of it trains nothing
                self._keep(len(self.state.position.history) * self._steps)
        seconds = self._spent(time.perf_counter() - start)
        position = self.state.position
        best = position.best if self.trainer.early_stopping else len(position.history) - 1
        return Outcome(
            history=tuple(one * self.objective.unit for one in position.history),
            best=best or 0,
            steps=len(position.history) * self._steps,
            rows=self._rows,
            seconds=seconds,
            weights=self.state.best or self._averaged_weights(),
        )

    def _resume(self) -> None:
        last = agreed(self._checkpoints, self._peers)
        if last is None:
            return
        self.state.restore(last)
        if self._rank.index == 0:
            self._rank.tell(CHECKPOINT, {"at": last.at, "resumed": True})

    def _finished(self) -> bool:
        position, patience = self.state.position, self.trainer.early_stopping
        since = len(position.history) - 1 - position.best if position.best is not None else 0
        return position.epoch >= self.trainer.epochs or bool(patience and since >= patience)

    def _epoch(self) -> None:
        position = self.state.position
        stream = self.data.batches(
            position.epoch,
            self.trainer.batch_size,
            self._peers.device,
            rank=self._rank.index,
            ranks=self._rank.count,
            start=position.step,
        )
        self.learner.train()
        processor = time.process_time()
        for batch in self._timed(stream):
            if self._rank.stopped():
                raise GivenUp
            self._step(batch)
            position.step += 1
            at = position.epoch * self._steps + position.step
            if at % self._every == 0:
                self._keep(at)
            self._tell(at)
        self._check()
        self._processor += time.process_time() - processor

    def _step(self, batch: Batch) -> None:
        """Go forward and backward through this rank's rows, sum with the others, and step."""
        position, state = self.state.position, self.state
        at = position.epoch * self._steps + position.step
        _seed(self.trainer.seed, at, self._rank.index, self._peers.device)
        learning_rate = rate(self.trainer, at, self._total)
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate
        rows = min(self.trainer.batch_size, len(self.data.train) - position.step * self.trainer.batch_size)
        self._gradients.clear()
        sums = self._gradients.summed(self._backward(batch, rows))
        state.scaler.unscale_(state.optimiser)
        gradients_ = [one.grad for one in self._learning.values() if one.grad is not None]
        if batch.w is not None:
            # A batch whose weights are all 0 teaches nothing.
            torch._foreach_mul_(gradients_, torch.where(sums[1] > 0, 1 / sums[1], 0.0))
        norm = torch.nn.utils.get_total_norm(gradients_)
        clip = self.trainer.clip
        # Where gradients are within it they would be multiplied by 1, a pass over all of them; a GPU is not asked.
        within = clip is None or (norm.device.type == "cpu" and bool(clip / (norm + _EPS) >= 1))
        if clip is not None and not within:
            torch.nn.utils.clip_grads_with_norm_(self._learning.values(), clip, norm)
        self._unchecked.append((position.step, rows, sums.clone(), norm))
        # On a GPU the check is one step late, or the device would wait for this process in each step.
        self._check(late=self._peers.device.type == "cuda")
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.average:
            weight = 1 - average_decay(self.trainer.ema or 0.0, at)
            torch._foreach_lerp_(list(state.average.values()), _values(self._learning), weight)
        self._rows += rows
        self._told_rows += rows

    def _backward(self, batch: Batch, rows: int) -> Tensor:
        """Add the gradients of this rank's rows; return its loss and weight, as shares of the batch's rows."""
        told = torch.zeros(2, device=self._peers.device)
        own = len(batch.x)
        if not own and self._gradients.together:
            # Whoever sums while computing waits for every rank's turn, also of one that has no rows.
            batch, own = _nothing(batch), 1
        parts = min(self._parts, own)
        for part in range(parts):
            cut = slice(own * part // parts, own * (part + 1) // parts)
            last = part == parts - 1
            with self._gradients.part(last=last):
                with self._mixed:
                    losses = self._gradients.learner(batch.x[cut], None if batch.y is None else batch.y[cut])
                if batch.w is not None:
                    losses = losses * batch.w[cut]
                loss = losses.sum() / rows
                self.state.scaler.scale(loss * self._gradients.scale).backward()
            told[0] += loss.detach()
        told[1] = (own if batch.w is None else batch.w.sum()) / rows
        return told

    def _check(self, *, late: bool = False) -> None:
        """Raise if a step's loss or gradient is not a number."""
        while len(self._unchecked) > late:
            step, rows, sums, norm = self._unchecked.pop(0)
            loss, weight = sums.tolist()
            # Half precision overflows now and then: its scaler leaves such a step out.
            if not math.isfinite(loss) or not (
                self.trainer.precision == "fp16" or math.isfinite(float(norm))
            ):
                self._accuse("loss" if not math.isfinite(loss) else "gradient", step)
            self.state.position.loss += loss * rows
            self.state.position.weight += weight * rows
            self._loss = loss / weight if weight else 0.0

    def _accuse(self, what: str, step: int | None) -> NoReturn:
        """Raise the error that names the step, or the validation, and the rows; all ranks raise the same."""
        position, data = self.state.position, self.data
        if step is None:
            rows, numbers = np.array(data.validate), np.arange(len(data.validate))
            when = f"in the validation after epoch {position.epoch}"
        else:
            rows, numbers = data.batch_of(position.epoch, step, self.trainer.batch_size)
            when = f"in step {step} of epoch {position.epoch}"

        def origins(places: Sequence[int]) -> Sequence[Origin]:
            part = "validate" if step is None else "train"
            return data.origins(part, [int(numbers[place]) for place in places])

        accuse(Suspects(what, when, rows, origins), self.learner, data.columns, self._peers.device)

    def _keep(self, at: int) -> None:
        self._check()
        if self._rank.index:
            return
        start = time.perf_counter()
        failure = self._checkpoints.attempt(at, self.state.files(), self.state.facts())
        self._rank.tell_checkpoint(at, failure)
        self._seconds["checkpoints"] += time.perf_counter() - start

    def _validate(self) -> None:
        start = time.perf_counter()
        talked = self._peers.seconds
        sums = torch.zeros(2, dtype=torch.float64, device=self._peers.device)
        stream = self.data.validation(
            max(1, self.trainer.batch_size // self._rank.count // self._parts),
            self._peers.device,
            rank=self._rank.index,
            ranks=self._rank.count,
        )
        self._peers.copy(list(self.net.buffers()))
        self.learner.eval()
        with self._averaged(), torch.no_grad(), self._mixed:
            for batch in stream:
                if self._rank.stopped():
                    raise GivenUp
                losses = self.learner(batch.x, batch.y)
                weights = torch.ones_like(losses) if batch.w is None else batch.w
                sums += torch.stack([(losses * weights).sum(dtype=torch.float64), weights.sum()])
            self._peers.sum(sums)
            loss, weight = sums.tolist()
            loss = loss / weight if weight else math.nan
            if not math.isfinite(loss):
                self._accuse("loss", None)
            self._finish_epoch(loss)
        self._seconds["validation"] += time.perf_counter() - start - (self._peers.seconds - talked)

    def _finish_epoch(self, loss: float) -> None:
        position, unit = self.state.position, self.objective.unit
        position.history.append(loss)
        if self.trainer.early_stopping and position.best == position.epoch and self._rank.index == 0:
            self.state.best = {
                n: one.detach().to("cpu", copy=True) for n, one in weights_of(self.net).items()
            }
        train = position.loss / position.weight if position.weight else 0.0
        if self._rank.index == 0:
            facts = {"train_loss": train * unit, "validate_loss": loss * unit}
            self._rank.tell("epoch", {"epoch": position.epoch, **facts})
        position.epoch, position.step, position.loss, position.weight = position.epoch + 1, 0, 0.0, 0.0

    def _tell(self, at: int) -> None:
        """Tell of the steps now and then; their losses at fixed steps, so that two runs can be compared."""
        now = time.monotonic()
        fixed = at % self._tell_every == 0
        if self._rank.index or not (fixed or now - self._told_at >= _TELL_EVERY_S or at == self._total):
            return
        facts: dict[str, float] = {"at": at, "rows": self._told_rows}
        if fixed:
            self._check()
            seconds = now - self._told_at
            facts |= {
                "loss": self._loss * self.objective.unit,
                "learning_rate": rate(self.trainer, at - 1, self._total),
                "rows_per_second": self._told_rows / seconds if seconds else 0.0,
            }
        self._rank.tell("step", facts)
        self._told_rows, self._told_at = 0, now

    def _timed(self, stream: Stream) -> Iterator[Batch]:
        found = iter(stream)
        while True:
            start = time.perf_counter()
            batch = next(found, None)
            self._seconds["data"] += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """While the network has the averaged weights."""
        if not self.state.average:
            yield
            return
        own = [one.detach().clone() for one in self._learning.values()]
        with torch.no_grad():
            torch._foreach_copy_(_values(self._learning), list(self.state.average.values()))
            try:
                yield
            finally:
                torch._foreach_copy_(_values(self._learning), own)

    def _averaged_weights(self) -> dict[str, Tensor]:
        with self._averaged():
            return {n: one.detach().to("cpu", copy=True) for n, one in weights_of(self.net).items()}

    def _spent(self, total: float) -> dict[str, float]:
        seconds = {**self._seconds, "communication": self._peers.seconds, "total": total}
        computing = max(0.0, 2 * total - sum(seconds.values()))
        return {"computing": computing, **seconds, "processor": self._processor}


def _values(named: Mapping[str, nn.Parameter]) -> list[Tensor]:
    return [one.detach() for one in named.values()]


def _nothing(batch: Batch) -> Batch:
    """A row that weighs nothing, in place of none."""
    zero = batch.x.new_zeros(1)
    return Batch(batch.x.new_zeros(1, batch.x.shape[1]), None if batch.y is None else zero, zero)


def _seed(seed: int, at: int, rank: int, device: torch.device) -> None:
    """Seed random numbers of a step: a function of these three, so that no state of theirs has to be kept."""
    text = f"{seed} {at} {rank}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    # Not torch.manual_seed: it takes a stack trace for each kind of device, a millisecond in every step.
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
