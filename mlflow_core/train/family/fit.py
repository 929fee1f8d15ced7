"""Train a family: the model of all rows, then one for each entity that has enough of them, side by side.

Which entities have enough is counted on the training part. Their rows are written apart once, and each is trained as
any training set is. An entity whose rows no model can be trained from, such as one whose label never changes, is left
to the model of all rows, and noted.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlflow_core import train
from mlflow_core.errors import MachineError, MlcoreError, TrainError, disk_is_full, nearest
from mlflow_core.spec.trainer import Family, Trainer
from mlflow_core.train.context import TrainContext
from mlflow_core.train.data.partition import partition
from mlflow_core.train.data.preprocess import Preprocessing, as_floats
from mlflow_core.train.data.spread import spread
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.gang.on_worker import Failed
from mlflow_core.train.identity import modules_of
from mlflow_core.train.models.family import EXACT_BELOW, FamilyScorer, Member, key_values
from mlflow_core.train.models.model import Model
from mlflow_core.train.pool import Slot, Stopped, open_pool

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["fit"]

Key = tuple[float, ...]
_WAIT_S = 0.25
_ROWS, _MEMBERS = "family", "members"


def fit(trainer: Family, data: TrainingData, context: TrainContext) -> Model:
    """Train a family.

    Args:
        trainer: The family.
        data: The training set.
        context: Where it runs: members side by side, one a worker, or one after the other without a cluster.

    Returns:
        The model, whose history is that of the model of all rows.

    Raises:
        TrainError: The key is not among the features, the model of all rows cannot be trained, no entity has enough
            rows for one of its own or none can be trained from them, workers were lost, or a disk is full.
    """
    for name in trainer.by:
        if name not in data.features:
            raise TrainError(
                f"the family's key \"{name}\" is not among the model's features",
                object="Family",
                place=trainer.place,
                hint=f"Add it to the feature service. {nearest(name, data.features)}",
            )
    everyone = train.fit(trainer.trainer, data, replace(context, workdir=context.workdir / "all"))
    key = _key(trainer, everyone.preprocessing)
    counts = {part: _counts(data, part, key, context.client) for part in ("train", "validate")}
    chosen = sorted(
        one for one, rows in counts["train"].items() if rows >= trainer.least_rows and counts["validate"][one]
    )
    if not chosen:
        raise TrainError(
            f"no entity has {trainer.least_rows:,} training rows and any to validate with: the largest of "
            f"{len(counts['train']):,} has {max(counts['train'].values(), default=0):,}",
            object="Family",
            place=trainer.place,
            hint="Lower least_rows, or train one model without a family.",
        )
    entities = [_label(trainer.by, values) for values in key_values(key, trainer.by, chosen)]
    began = time.monotonic()
    try:
        sets = _apart(data, key, chosen, context)
        models, failed = _train_members(trainer.trainer, sets, entities, everyone.outputs, context)
    finally:
        for name in (_ROWS, _MEMBERS):
            shutil.rmtree(context.workdir / name, ignore_errors=True)
    if not models:
        entity, reason = next(iter(failed.items()))
        raise TrainError(
            f"no entity can have a model of its own: {entity}, and others: {reason}",
            object="Family",
            place=trainer.place,
            hint="Train one model without a family, or tell other entities apart.",
        )
    members = tuple(
        Member(one, counts["train"][one], models[number].preprocessing, models[number].scorer)
        for number, one in enumerate(chosen)
        if number in models
    )
    if context.profile:
        context.recorder.metrics({"seconds.members": time.monotonic() - began})
    every = sum(path_rows for path_rows in (pq.read_metadata(path).num_rows for path in data.files("train")))
    rest = every - sum(one.rows for one in members)
    notes = _notes(members, rest, every, failed)
    context.recorder.params(
        {
            "family.members": len(members),
            "family.rows": every - rest,
            "family.rest": rest,
            "family.notes": notes,
        }
    )
    return replace(
        everyone,
        scorer=FamilyScorer(everyone.preprocessing, trainer.by, everyone.scorer, rest, members),
        notes=(*everyone.notes, *notes),
        metadata={**everyone.metadata, "trainer": trainer.model_dump(mode="json")},
    )


def _key(trainer: Family, preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing of the key's columns alone."""
    features = {feature.name: feature for feature in preprocessing.features}
    for name in trainer.by:
        if features[name].length is not None:
            raise TrainError(
                f'the family\'s key "{name}" is a list',
                object="Family",
                place=trainer.place,
                expected="one value",
            )
    return Preprocessing(tuple(features[name] for name in trainer.by))


def _counts(data: TrainingData, part: str, key: Preprocessing, client: Client | None) -> Counter[Key]:
    total: Counter[Key] = Counter()
    spread(partial(_count, key=key), data.files(part), client, total.update)
    return total


def _count(path: Path, key: Preprocessing) -> Counter[Key]:
    found: Counter[Key] = Counter()
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=list(key.names))
            _check_exact(path, table, key)
            keys = key.matrix(table)
            distinct, rows = np.unique(keys[~np.isnan(keys).any(axis=1)], axis=0, return_counts=True)
            for one, count in zip(distinct, rows, strict=True):
                found[tuple(float(value) for value in one)] += int(count)
    return found


def _check_exact(path: Path, table: pa.Table, key: Preprocessing) -> None:
    """A model's matrix is float32: two large numbers would become one entity."""
    for feature in key.features:
        if feature.kind != "number":
            continue
        values = as_floats(table.column(feature.name))
        values = values[np.isfinite(values)]
        if (values.astype(np.float32) != values).any() or (np.abs(values) >= EXACT_BELOW).any():
            raise TrainError(
                f'the family\'s key "{feature.name}" has numbers that float32 cannot tell apart',
                place=str(path),
                expected="strings, booleans, or whole numbers below 16,777,216",
                hint="Make a string of it in an on-demand feature.",
            )


def _apart(
    data: TrainingData, key: Preprocessing, chosen: Sequence[Key], context: TrainContext
) -> list[TrainingData]:
    """A training set for each entity."""
    assign = _OfEntity(key, tuple(chosen))
    folder = context.workdir / _ROWS
    try:
        files = {
            part: partition(
                data, part, assign, folder, described=["family", key.digest, chosen], client=context.client
            )
            for part in ("train", "validate")
        }
    except OSError as error:
        raise MachineError(
            f"the rows of {len(chosen):,} entities cannot be written apart: {error.strerror or error}",
            object="Family",
            place=str(folder),
            expected="a folder that this process and all workers reach, with room for their rows",
            hint="Free some space, then run it again." if disk_is_full(error) else None,
        ) from error
    return [
        replace(data, shards={"train": files["train"][n], "validate": files["validate"][n], "test": ()})
        for n in range(len(chosen))
    ]


@dataclass(frozen=True)
class _OfEntity:
    """Which of the chosen entities each row is of."""

    key: Preprocessing
    chosen: tuple[Key, ...]

    def __call__(self, table: pa.Table) -> NDArray[np.int64]:
        keys = self.key.matrix(table.select(list(self.key.names)))
        known = np.flatnonzero(~np.isnan(keys).any(axis=1))
        found = np.full(len(keys), -1, dtype=np.int64)
        if len(known):
            numbers = {one: number for number, one in enumerate(self.chosen)}
            distinct, inverse = np.unique(keys[known], axis=0, return_inverse=True)
            of = [numbers.get(tuple(float(value) for value in one), -1) for one in distinct]
            found[known] = np.array(of, dtype=np.int64)[inverse.reshape(-1)]
        return found


@dataclass(frozen=True)
class _Refused:
    """Why no model can be trained from an entity's rows."""

    reason: str


@dataclass(frozen=True)
class _Broken:
    """What kept a model from being trained that is no fault of its entity's rows.

    Args:
        failed: What was raised.
        cause: What that was raised from, which an error of ours loses when it travels.
    """

    failed: Failed
    cause: Failed | None

    @classmethod
    def of(cls, error: Exception) -> Self:
        """What an exception says, with its cause."""
        cause = error.__cause__
        return cls(Failed.of(error), Failed.of(cause) if isinstance(cause, Exception) else None)

    @property
    def root(self) -> Exception:
        """What it began with."""
        return (self.cause or self.failed).error

    def told(self, entity: str) -> TrainError:
        """Say it to whoever asked for the family."""
        error = self.failed.error
        if isinstance(error, MlcoreError):
            return _of_entity(error, entity)
        return self.failed.told(f"the model of {entity}")


@dataclass(frozen=True)
class _MemberProgram:
    """The training of one entity's model; its result is the folder that it was saved in."""

    trainer: Trainer
    data: TrainingData
    workdir: Path

    def __call__(self, slot: Slot) -> Path | _Refused | _Broken:
        """Train and save, or say why not: returned, because a raised error would lose its cause and its entity."""
        # Made here: where it is started again, the first may still be ending on a worker that seems lost.
        folder = self.workdir / uuid.uuid4().hex
        saved: Path | None = None
        try:
            saved = self._trained(folder, slot)
        except Stopped:
            raise
        except TrainError as error:
            return _Broken.of(error) if _is_of_the_machine(error) else _Refused(str(error))
        except (
            Exception
        ) as error:  # whatever a machine, a library or a user's module does; the caller says it
            return _Broken.of(error)
        finally:
            shutil.rmtree(folder if saved is None else folder / "work", ignore_errors=True)
        return saved

    def _trained(self, folder: Path, slot: Slot) -> Path:
        context = TrainContext(
            workdir=folder / "work",
            recorder=_Ending(slot),
            # No cleaning of a common cache would know whose rows these are.
            cache=folder / "work" / "cache",
            threads=slot.threads,
        )
        saved = train.fit(self.trainer, self.data, context).save(folder / "model")
        if slot.stopped():
            raise Stopped
        return saved


def _is_of_the_machine(error: TrainError) -> bool:
    """Whether another machine, or this one at another time, would have trained with the same rows."""
    cause = error.__cause__
    return isinstance(error, MachineError) or (
        isinstance(cause, OSError | MemoryError | ImportError | pa.ArrowException)
        or type(cause).__name__ == "OutOfMemoryError"  # torch's, which is imported by those only who use it
    )


@dataclass(frozen=True)
class _Ending:
    """The recorder of a member: what it is for is to end a training whose caller has gone."""

    slot: Slot

    def params(self, params: Mapping[str, Any]) -> None:
        """Those of the model of all rows are recorded."""

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:  # noqa: ARG002 the protocol's
        """Nobody follows a member's rounds."""
        if self.slot.stopped():
            raise Stopped

    def artifact(self, name: str, path: Path) -> None:
        """A member leaves its model only."""


def _train_members(
    trainer: Trainer,
    sets: Sequence[TrainingData],
    entities: Sequence[str],
    outputs: Sequence[str],
    context: TrainContext,
) -> tuple[dict[int, Model], dict[str, str]]:
    """Each entity's model by its number, and why those that have none cannot be trained from their rows."""
    alone = trainer.model_copy(update={"workers": 1})
    models: dict[int, Model] = {}
    failed: dict[str, str] = {}
    with (
        context.progress.stage("training the family", len(sets), "models") as stage,
        open_pool(
            context.client,
            parallel=None,
            told=lambda _, __: None,
            threads=context.threads,
            modules=modules_of(trainer),
        ) as pool,
    ):
        left = list(range(len(sets)))
        while left or pool.running:
            while left and pool.free:
                number = left.pop(0)
                pool.start(number, _MemberProgram(alone, sets[number], context.workdir / _MEMBERS))
            ended = pool.wait(_WAIT_S)
            if ended is None:
                continue
            if ended.error is not None:
                raise _of_entity(ended.error, entities[ended.key]) from ended.error
            if isinstance(ended.result, _Broken):
                raise ended.result.told(entities[ended.key]) from ended.result.root
            if isinstance(ended.result, _Refused):
                failed[entities[ended.key]] = ended.result.reason
            else:
                model = Model.load(ended.result)
                shutil.rmtree(ended.result.parent, ignore_errors=True)
                if model.outputs == tuple(outputs):
                    models[ended.key] = model
                else:
                    failed[entities[ended.key]] = (
                        f"its model gives {len(model.outputs)} values a row, that of all rows {len(outputs)}"
                    )
            stage.advance()
    return models, failed


def _of_entity(error: MlcoreError, entity: str) -> MachineError:
    return MachineError(
        f"the model of {entity}: {error.what}",
        object=error.object,
        place=error.place,
        expected=error.expected,
        hint=error.hint,
    )


def _notes(members: Sequence[Member], rest: int, every: int, failed: Mapping[str, str]) -> tuple[str, ...]:
    notes = [
        f"{len(members):,} entities have a model of their own; {rest:,} of {every:,} training rows are of others"
    ]
    notes += [
        f"{entity} is left to the model of all rows: {reason}" for entity, reason in sorted(failed.items())
    ]
    return tuple(notes)


def _label(by: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(by, values, strict=True))
