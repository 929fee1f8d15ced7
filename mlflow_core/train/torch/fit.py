"""From Parquet shards to a trained network: settings checked, data summarised, matrices built, ranks run, a model made.

Everything that can be refused is refused before a rank starts. What the ranks do is in ``rank``; that they find each
other, survive a lost worker and go on from a checkpoint is the gang's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.context import TrainContext
from mlflow_core.train.data.label import LabelProfile, check_label, check_weights
from mlflow_core.train.data.matrix import StoredMatrix, build_matrix, held
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.data.profile import merge, merge_further
from mlflow_core.train.data.shuffle import ORDER_FORMAT
from mlflow_core.train.data.survey import survey
from mlflow_core.train.data.training_set import PARTS, TrainingData
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.gang import GangResult, run_gang
from mlflow_core.train.gang.seats import check_cluster
from mlflow_core.train.identity import identity_of
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.network import NetworkScorer
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.torch.lone_row import check_lone_row
from mlflow_core.train.torch.objectives import Objective
from mlflow_core.train.torch.rank import Program, Trained
from mlflow_core.train.torch.rendezvous import StoreRendezvous
from mlflow_core.train.torch.stream import Columns
from mlflow_core.train.torch.telling import Telling

if TYPE_CHECKING:
    from distributed import Client

    from mlflow_core.telemetry.progress import Progress

__all__ = ["fit"]

_SAMPLE_ROWS = 10_000
_CHUNK_ROWS = 1 << 20


def fit(trainer: Torch, data: TrainingData, context: TrainContext) -> Model:
    """Train on the training part, stop on the validation part; the test part is not opened.

    The same seed, rows, shards and number of workers give the same weights, to the bit, on CPU; so does a training
    that was disturbed and went on with as many ranks.

    Args:
        trainer: The settings.
        data: The training set.
        context: Where it runs, and whom it tells.

    Returns:
        The model, with the weights of the best epoch if it may stop early, else of the last.

    Raises:
        TrainError: The settings or the data cannot be trained with, a loss is not a number, or more workers were lost
            than ``recovery`` allows.
        MachineError: A worker has less memory than the trainer says that it needs, lacks a device, or has no room left.
    """
    _check_settings(trainer, data, context.client)
    seen = _look(trainer, data, context.client, context.progress)
    context.workdir.mkdir(parents=True, exist_ok=True)
    folder = context.cache or context.workdir / "matrices"
    train, validate = (
        build_matrix(
            data,
            part,
            seen.preprocessing,
            seen.columns,
            folder,
            client=context.client,
            progress=context.progress,
            seed=trainer.seed,
        )
        for part in PARTS[:2]
    )
    with held(train, validate):
        program = _program(trainer, seen, train, validate, context)
        context.recorder.params(_facts(trainer, seen))
        result = _run(program, context)
        scorer = _scorer(program)
    if context.checkpoints is None:
        program.checkpoints.clear()
    program.weights.unlink()
    return _model(program, seen, data, result, scorer)


@dataclass(frozen=True)
class _Seen:
    """What was found in the shards."""

    preprocessing: Preprocessing
    notes: tuple[str, ...]
    labels: Mapping[str, LabelProfile]
    label: str | None
    weight: str | None
    rows: Mapping[str, int]

    @property
    def columns(self) -> tuple[str, ...]:
        """What the matrix holds behind the features."""
        return tuple(name for name in (self.label, self.weight) if name is not None)


def _check_settings(trainer: Torch, data: TrainingData, client: Client | None) -> None:
    memory = trainer.memory_per_worker or 0
    check_cluster(client, trainer.workers, memory=memory, object="Torch", place=trainer.place)
    if trainer.batch_size < trainer.workers:
        raise TrainError(
            f"a batch of {trainer.batch_size} rows cannot be shared by {trainer.workers} workers",
            object="Torch",
            place=trainer.place,
            expected="at least one row per worker",
        )
    if Objective.of(trainer).labelled and not data.label:
        raise TrainError(
            f'the objective "{trainer.objective}" needs a label, and the dataset has none',
            object="Torch",
            place=trainer.place,
        )


def _look(trainer: Torch, data: TrainingData, client: Client | None, progress: Progress) -> _Seen:
    labelled = Objective.of(trainer).labelled
    profiles = survey(data, further=trainer.columns, labelled=labelled, client=client, progress=progress)
    preprocessing, notes, _ = merge(profiles["train"], data.features, sequences=True)
    labels = {part: merge_further(own) for part, own in profiles.items()} if labelled else {}
    for part, label in labels.items():
        check_label(part, data.label, label, binary=trainer.objective == "binary", classes=trainer.classes)
    rows = {part: sum(sum(one.groups) for one in own) for part, own in profiles.items()}
    for part, own in profiles.items():
        _check_rows(part, rows[part], trainer.workers)
        if trainer.weight is not None:
            check_weights(part, trainer.weight, merge_further(own, trainer.weight))
    return _Seen(preprocessing, notes, labels, data.label if labelled else None, trainer.weight, rows)


def _check_rows(part: str, rows: int, workers: int) -> None:
    if not rows:
        raise TrainError(f'the part "{part}" of the dataset has no rows', hint="Move the cuts of the split.")
    if rows < workers:
        raise TrainError(
            f'the part "{part}" has {rows} rows for {workers} workers',
            expected="at least one row per worker",
            hint="Use fewer workers.",
        )


def _program(
    trainer: Torch, seen: _Seen, train: StoredMatrix, validate: StoredMatrix, context: TrainContext
) -> Program:
    inputs = Inputs.of(seen.preprocessing, train.open()[:_SAMPLE_ROWS])
    objective = Objective.of(trainer)
    if trainer.objective in ("regression", "quantile") and seen.label is not None:
        objective = Objective.of(trainer, *_moments(train, train.column(seen.label)))
    # Made once here, so that what cannot be made is told before any rank starts.
    net = build(trainer.module, trainer.arguments, inputs, objective.outputs, seed=trainer.seed)
    check_lone_row(net, inputs, trainer, train.rows)
    columns = Columns(
        seen.preprocessing.width,
        None if seen.label is None else train.column(seen.label),
        None if seen.weight is None else train.column(seen.weight),
    )
    return Program(
        trainer=trainer,
        objective=objective,
        inputs=inputs,
        train=train,
        validate=validate,
        columns=columns,
        checkpoints=Checkpoints(
            context.checkpoint_place, _identity(trainer, train, validate, seen.preprocessing)
        ),
        weights=context.workdir / "weights.safetensors",
    )


def _moments(matrix: StoredMatrix, column: int) -> tuple[float, float]:
    """Mean and standard deviation of a column, in two passes."""
    values = matrix.open()[:, column]
    chunks = [values[start : start + _CHUNK_ROWS] for start in range(0, len(values), _CHUNK_ROWS)]
    mean = sum(float(one.sum(dtype=np.float64)) for one in chunks) / len(values)
    squares = sum(float(np.square(one.astype(np.float64) - mean).sum()) for one in chunks)
    return mean, (squares / len(values)) ** 0.5


def _identity(
    trainer: Torch, train: StoredMatrix, validate: StoredMatrix, preprocessing: Preprocessing
) -> str:
    """Digest of what decides the weights; not of where they are computed, or how often they are kept."""
    text = json.dumps(
        [identity_of(trainer), train.digest, validate.digest, preprocessing.digest, ORDER_FORMAT]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _facts(trainer: Torch, seen: _Seen) -> dict[str, Any]:
    facts = {f"trainer.{name}": value for name, value in trainer.model_dump(mode="json").items()}
    facts |= {f"rows.{part}": rows for part, rows in seen.rows.items()}
    if trainer.objective == "binary":
        facts |= {f"positives.{part}": label.ones for part, label in seen.labels.items()}
    kinds = [feature.kind for feature in seen.preprocessing.features]
    facts |= {f"features.{kind}": kinds.count(kind) for kind in ("number", "bool", "category")}
    return facts | ({"notes": list(seen.notes)} if seen.notes else {})


def _run(program: Program, context: TrainContext) -> GangResult[Trained]:
    trainer = program.trainer
    users = trainer.module.partition(":")[:1] if isinstance(trainer.module, str) else ()
    steps = -(-program.train.rows // trainer.batch_size) * trainer.epochs
    with context.progress.stage("training the network", steps, "steps") as stage:
        telling = Telling(stage, context.recorder)
        result = run_gang(
            context.client,
            program,
            ranks=trainer.workers,
            recovery=trainer.recovery,
            rendezvous=StoreRendezvous(users),
            told=telling.told,
            progress=context.progress,
            threads=context.threads,
            memory=trainer.memory_per_worker or 0,
        )
    if context.profile:
        seconds = result.results[0].seconds
        context.recorder.metrics({f"seconds.{what}": spent for what, spent in seconds.items()})
    return result


def _scorer(program: Program) -> NetworkScorer:
    trainer, objective = program.trainer, program.objective
    try:
        weights = load_file(program.weights)
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"the weights that rank 0 left cannot be read: {error}",
            place=str(program.weights),
            expected="a folder that the workers share with this process",
        ) from error
    return NetworkScorer.of(
        trainer.module,
        trainer.arguments,
        program.inputs,
        objective.outputs,
        weights,
        link=objective.link,
        scale=objective.std,
        shift=objective.mean,
    )


def _model(
    program: Program, seen: _Seen, data: TrainingData, result: GangResult[Trained], scorer: NetworkScorer
) -> Model:
    trained = result.results[0]
    model = Model(
        preprocessing=seen.preprocessing,
        label=seen.label or "",
        request=data.request,
        objective=program.trainer.objective,
        task=program.objective.task,
        scorer=scorer,
        outputs=program.objective.names,
        history={"loss": trained.history},
        best=trained.best,
        notes=seen.notes,
        metadata={"trainer": program.trainer.model_dump(mode="json")},
    )
    if not result.lost:
        return model
    lost = [f"the worker {one.worker} of rank {one.rank} was lost while it trained" for one in result.lost]
    return replace(model, notes=(*model.notes, *lost))
