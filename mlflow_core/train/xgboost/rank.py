"""What one rank does: bin its own rows, go on from the last checkpoint, boost, and keep checkpoints if it is the first.

It runs in this process or on a Dask worker, alone or under XGBoost's communicator; the code is the same. From the
number of ranks it knows which rows are its own, so that a gang that goes on with fewer shares them anew. A query of a
ranking is never split.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xgboost
from numpy.typing import NDArray
from xgboost import collective

from mlflow_core.errors import MachineError, TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.data.matrix import StoredMatrix
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.rank import CHECKPOINT, Disrupted, Rank
from mlflow_core.train.models.booster import reason
from mlflow_core.train.xgboost.batches import Rows
from mlflow_core.train.xgboost.bins import SAMPLE_ROWS, Binned, Binning, bytes_in_memory
from mlflow_core.train.xgboost.columns import Columns
from mlflow_core.train.xgboost.queries import boundaries
from mlflow_core.train.xgboost.segments import Boosted, Plan, State, boost
from mlflow_core.train.xgboost.settings import names_of_outputs, parameters

__all__ = ["BOOSTER", "Part", "Program", "RankResult", "state_of"]

BOOSTER: Final = "booster.ubj"

_SHARE_OF_MEMORY: Final = 0.4
_OF_PEERS: Final = ("collective", "rabit", "socket", "tracker", "connection", "broken pipe")
_OF_MACHINES: Final = (
    "bad_alloc",
    "out of memory",
    "memory allocation",
    "memoryallocation",
    "no space left",
    "cudaerror",
)


@dataclass(frozen=True)
class Part:
    """The rows of a part of the training set.

    Args:
        matrix: Its matrix, in the rows' own order.
        queries: The first row of each query, (n_queries,) int64; None where rows stand for themselves.
    """

    matrix: StoredMatrix
    queries: NDArray[np.int64] | None = None

    def share(self, index: int, count: int) -> Rows:
        """The rows of one of so many ranks: a contiguous run, with whole queries."""
        total = self.matrix.rows
        if self.queries is None:
            return Rows(self.matrix, total * index // count, total * (index + 1) // count)
        first, last = boundaries(self.queries, total, count)[index : index + 2]
        own = self.queries[(self.queries >= first) & (self.queries < last)] - first
        return Rows(self.matrix, first, last, own)


@dataclass(frozen=True)
class RankResult:
    """What a rank has to tell.

    Args:
        rounds: Rounds that were tried.
        history: Validation metric by name, one value for each of them.
        best: The round of the model, from 0.
        rows: Training rows of this rank.
        external: Whether its rows were kept in files.
        seconds: What took how long: ``data``, ``computing``, ``communication``; and the ``processor``'s time of the boosting.
    """

    rounds: int
    history: Mapping[str, tuple[float, ...]]
    best: int
    rows: int
    external: bool
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """The work of a gang of ranks.

    Args:
        trainer: The settings.
        columns: What is read beside the features.
        preprocessing: How columns become numbers; the same object on all ranks, so is its dictionary.
        train: The training part.
        validate: The validation part.
        workdir: A folder that all ranks and the caller share.
        checkpoints: Those of this training. The last one that is ``done`` has the trees of the model.
    """

    trainer: XGBoost
    columns: Columns
    preprocessing: Preprocessing
    train: Part
    validate: Part
    workdir: Path
    checkpoints: Checkpoints

    def __call__(self, rank: Rank) -> RankResult:
        """Train as one rank, alone or together with the others.

        Raises:
            MachineError: The worker lacks the device, the matrices, memory or disk.
            TrainError: XGBoost refuses; carries its reason.
            Disrupted: The other ranks cannot be reached, or this attempt was given up.
        """
        if self.trainer.device == "cuda":
            _check_cuda(rank)
        for part in (self.train, self.validate):
            part.matrix.check()
        try:
            return self._train(rank)
        except xgboost.core.XGBoostError as error:
            if rank.count > 1 and any(word in str(error).lower() for word in _OF_PEERS):
                raise Disrupted(f"the other ranks cannot be reached: {reason(error)}") from None
            kind = MachineError if _is_of_the_machine(error) else TrainError
            raise kind(f"XGBoost: {reason(error)}", object=f"rank {rank.index}") from None

    def _train(self, rank: Rank) -> RankResult:
        began = time.monotonic()
        _give_back_memory()
        train, validate = (part.share(rank.index, rank.count) for part in (self.train, self.validate))
        external = self._is_external(train.count + validate.count)
        with _folder(self.workdir, wanted=external) as folder:
            binning = Binning(
                self.preprocessing,
                self.columns,
                max_bin=self.trainer.max_bin,
                threads=rank.threads,
                folder=folder,
            )
            # With all rows in one process the edges are those of plain XGBoost, without a second pass for them.
            alone = rank.count == 1 and train.count <= SAMPLE_ROWS and not external
            edges = None if alone else binning.edges(self.train.matrix)
            with _together(rank):
                binned = binning.binned(train, validate, edges)
                del edges, binning
                _give_back_memory()
                ready, worked = time.monotonic(), time.process_time()
                try:
                    end = self._boost(rank, binned)
                finally:
                    binned.free()
        seconds = {"data": ready - began, **self._spent(rank, ready, worked)}
        history = {name: tuple(values) for name, values in end.state.history.items()}
        return RankResult(end.state.rounds, history, end.best, train.count, external, seconds)

    def _spent(self, rank: Rank, since: float, worked: float) -> dict[str, float]:
        """Where the time of boosting went."""
        boosting, processor = time.monotonic() - since, time.process_time() - worked
        # How long a rank waits for the others XGBoost does not tell. Its threads sleep then, so it is at most the time in
        # which they did not compute; on a machine that others use, waiting for a processor is among it.
        told = rank.count > 1 and self.trainer.device == "cpu"
        computing = min(boosting, processor / rank.threads) if told else boosting
        return {"computing": computing, "communication": boosting - computing, "processor": processor}

    def _boost(self, rank: Rank, binned: Binned) -> Boosted:
        start, best = self._start(rank)
        if best is not None:  # all was done but to say so
            return Boosted(start, best)
        first = rank.index == 0
        if first and start.rounds:
            history = {name: list(values) for name, values in start.history.items()}
            rank.tell("resumed", {"rounds": start.rounds, "history": history})
            rank.tell(CHECKPOINT, {"at": start.rounds})

        def after_round(round_: int, metrics: Mapping[str, float]) -> None:
            if rank.stopped():
                raise Disrupted(f"it was stopped after round {round_}")
            if first:
                rank.tell("round", {"round": round_, "metrics": dict(metrics)})

        def after_segment(state: State) -> None:
            if first:
                failure = self.checkpoints.attempt(state.rounds, *_kept(state, best=None))
                rank.tell_checkpoint(state.rounds, failure)

        plan = Plan(
            parameters(self.trainer, self.preprocessing.columns, threads=rank.threads),
            self.trainer.rounds,
            self.trainer.checkpoint_every,
            self.trainer.early_stopping,
        )
        end = boost(
            plan,
            binned.train,
            binned.validate,
            start,
            after_round=after_round,
            after_segment=after_segment,
        )
        if first:
            self.checkpoints.write(end.state.rounds, *_kept(end.state, best=end.best))
        return end

    def _start(self, rank: Rank) -> tuple[State, int | None]:
        """Where to begin, as the first rank says: it alone looks, so that all begin at the same round."""
        found = self.checkpoints.last() if rank.index == 0 else None
        state = state_of(found) if found is not None else State()
        best = found.facts["best"] if found is not None else None
        return collective.broadcast((state, best), 0) if rank.count > 1 else (state, best)

    def _is_external(self, rows: int) -> bool:
        if self.trainer.memory != "auto":
            return self.trainer.memory == "external"
        outputs = len(names_of_outputs(self.trainer, self.columns.label))
        needed = bytes_in_memory(rows, self.preprocessing.width, self.trainer.max_bin, outputs)
        return needed > _SHARE_OF_MEMORY * _memory_limit()


def _kept(state: State, *, best: int | None) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A checkpoint's files and facts; see ``state_of``."""
    history = {name: list(values) for name, values in state.history.items()}
    return {BOOSTER: state.booster or b""}, {"best": best, "history": history}


def state_of(checkpoint: Any) -> State:
    """The state that a checkpoint keeps."""
    return State(checkpoint.at, checkpoint.files[BOOSTER], checkpoint.facts["history"])


def _together(rank: Rank) -> AbstractContextManager[Any]:
    if rank.count == 1:
        return nullcontext()
    return collective.CommunicatorContext(**rank.rendezvous, dmlc_task_id=f"rank-{rank.index:05d}")


def _check_cuda(rank: Rank) -> None:
    """XGBoost itself would warn, and train on the CPU."""
    with xgboost.config_context(verbosity=0):
        row = xgboost.DMatrix(np.zeros((1, 1)), np.zeros(1))
        used = xgboost.Booster({"device": "cuda", "verbosity": 0}, [row]).save_config()
    if json.loads(used)["learner"]["generic_param"]["device"] == "cpu":
        raise MachineError(
            'there is no CUDA device that XGBoost can use, and the trainer says device="cuda"',
            object=f"rank {rank.index} on {os.uname().nodename}",
            hint='Use device="cpu", or workers with a GPU.',
        )


def _is_of_the_machine(error: Exception) -> bool:
    """Whether memory, disk or device did not suffice: XGBoost has one class for all errors, and says it in words."""
    said = str(error).lower()
    return any(word in said for word in _OF_MACHINES)


def _memory_limit() -> int:
    """Bytes that this process may use: the worker's limit, else the machine's."""
    from distributed import get_worker
    from distributed.system import MEMORY_LIMIT

    try:
        return int(get_worker().memory_manager.memory_limit or MEMORY_LIMIT)
    except ValueError:
        return int(MEMORY_LIMIT)


@contextmanager
def _folder(workdir: Path, *, wanted: bool) -> Iterator[Path | None]:
    """A folder of this rank's own: the worker's local one, which Dask cleans also if the worker is killed."""
    if not wanted:
        yield None
        return
    from distributed import get_worker

    try:
        where = Path(get_worker().local_directory)
    except ValueError:
        where = workdir / "bins"
        shutil.rmtree(where, ignore_errors=True)  # of a process that was killed
        where.mkdir(parents=True)
    made = Path(tempfile.mkdtemp(prefix="mlcore-bins-", dir=where))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if where == workdir / "bins":
            shutil.rmtree(where, ignore_errors=True)


def _give_back_memory() -> None:
    """What was read is not needed any more; bins and boosting need about as much."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed up to 64 MB a thread
    if trim is not None:
        trim(0)
