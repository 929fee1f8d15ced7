"""Gradient boosted trees from Parquet shards: settings checked, data summarised, ranks run, a model returned.

Everything that can be refused is refused before a rank starts. What is learned with one rank equals plain XGBoost on
the same rows, segment by segment; with several, bin edges are the same, and metrics such as the AUC are merged from
the ranks' own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.telemetry.progress import Stage
from mlflow_core.train.context import TrainContext
from mlflow_core.train.data.label import LabelProfile
from mlflow_core.train.data.matrix import StoredMatrix, build_matrix, held
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.data.profile import ShardProfile, merge
from mlflow_core.train.data.spread import spread
from mlflow_core.train.data.survey import survey
from mlflow_core.train.data.training_set import PARTS, TrainingData
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.gang import GangResult, run_gang
from mlflow_core.train.gang.seats import check_cluster
from mlflow_core.train.identity import identity_of
from mlflow_core.train.models.booster import BoosterScorer
from mlflow_core.train.models.model import Model
from mlflow_core.train.recorder import Recorder
from mlflow_core.train.xgboost.columns import Columns, check_columns, columns_of
from mlflow_core.train.xgboost.edges import EDGES_FORMAT
from mlflow_core.train.xgboost.queries import Runs, query_starts, runs_of
from mlflow_core.train.xgboost.rank import BOOSTER, Part, Program, RankResult
from mlflow_core.train.xgboost.settings import check_settings, names_of_outputs, task
from mlflow_core.train.xgboost.tracker import Tracker

if TYPE_CHECKING:
    from mlflow_core.train.gang.rank import Told

__all__ = ["fit"]

Profiles = Mapping[str, tuple[ShardProfile, ...]]


def fit(trainer: XGBoost, data: TrainingData, context: TrainContext) -> Model:
    """Train on the training part, stop on the validation part; the test part is not opened.

    The same seed, rows, shards and number of workers give the same booster, byte for byte, also if workers were lost
    and replaced, or if the training was killed and called again with the same place of checkpoints.

    Args:
        trainer: The settings.
        data: The training set.
        context: Where it runs, and whom it tells: every round once, in order, those of a checkpoint too.

    Returns:
        The model, with the booster of the best round if it may stop early.

    Raises:
        TrainError: The settings or the data cannot be trained with, or more workers were lost than may be.
        MachineError: A worker has less memory than the trainer says that it needs, lacks a device, or has no room left.
    """
    check_settings(trainer, data.features, data.label)
    memory = trainer.memory_per_worker or 0
    check_cluster(context.client, trainer.workers, memory=memory, object="XGBoost", place=trainer.place)
    further = tuple(name for name in trainer.columns if name != trainer.group)
    profiles = survey(data, further=further, client=context.client, progress=context.progress)
    preprocessing, notes, label = merge(profiles["train"], data.features)
    _check_categories(trainer, preprocessing)
    seen = {part: check_columns(trainer, part, data.label, profiles[part]) for part in PARTS[:2]}
    queries = _queries(trainer, data, profiles, context)
    context.recorder.params(_facts(trainer, data, preprocessing, seen, notes))
    context.workdir.mkdir(parents=True, exist_ok=True)
    columns = columns_of(trainer, data.label, label)
    began = time.monotonic()
    matrices = _matrices(data, preprocessing, columns, context)
    decoding = time.monotonic() - began
    with held(*matrices.values()):
        train, validate = (Part(matrices[part], queries[part]) for part in PARTS[:2])
        program = Program(
            trainer,
            columns,
            preprocessing,
            train,
            validate,
            context.workdir,
            Checkpoints(context.checkpoint_place, _identity(trainer, (train, validate), preprocessing)),
        )
        gang = _run(program, context, decoding)
    result = gang.results[0]
    context.recorder.params(_of_gang(gang))
    ended = program.checkpoints.last()
    if ended is None:
        raise TrainError(
            "the model that was trained is gone",
            place=program.checkpoints.place,
            expected="a place of checkpoints that this process and the workers reach",
        )
    scorer = BoosterScorer.load(ended.files, {}, preprocessing, place=str(context.workdir / BOOSTER))
    if context.checkpoints is None:
        program.checkpoints.clear()
    if context.cache is None:
        shutil.rmtree(_own_cache(context), ignore_errors=True)  # no reason to lose the model
    return Model(
        scorer=scorer,
        preprocessing=preprocessing,
        label=data.label,
        request=data.request,
        objective=trainer.objective,
        task=task(trainer),
        outputs=names_of_outputs(trainer, data.label),
        history=result.history,
        best=result.best,
        notes=notes,
        metadata={"trainer": trainer.model_dump(mode="json")},
    )


def _check_categories(trainer: XGBoost, preprocessing: Preprocessing) -> None:
    kinds = {feature.name: feature.kind for feature in preprocessing.features}
    several = trainer.params.get("multi_strategy") == "multi_output_tree"
    if several and "category" in kinds.values():
        raise TrainError(
            'XGBoost has no trees of several targets ("multi_output_tree") over categories',
            object="XGBoost",
            place=trainer.place,
            hint="Leave multi_strategy away, which makes one tree for each target.",
        )
    for name, way in trainer.monotone.items():
        if way and kinds[name] == "category":
            raise TrainError(
                f'monotone names "{name}", whose values are categories and have no order',
                object="XGBoost",
                place=trainer.place,
            )


def _queries(
    trainer: XGBoost, data: TrainingData, profiles: Profiles, context: TrainContext
) -> Mapping[str, NDArray[np.int64] | None]:
    """Where the queries of each part begin; None where rows stand for themselves."""
    made: dict[str, NDArray[np.int64] | None] = {}
    for part in PARTS[:2]:
        made[part] = None
        _check_enough(part, sum(sum(one.groups) for one in profiles[part]), "rows", trainer.workers)
        if trainer.group is None:
            continue
        calls = [(path, trainer.group) for path in data.files(part)]
        with context.progress.stage(f"finding the queries of {part}", len(calls), "shards") as stage:
            runs = spread(_runs, calls, context.client, _advancing(stage))
        starts = made[part] = query_starts(part, trainer.group, runs)
        _check_enough(part, len(starts), "queries", trainer.workers)
    return made


def _matrices(
    data: TrainingData, preprocessing: Preprocessing, columns: Columns, context: TrainContext
) -> Mapping[str, StoredMatrix]:
    """Each part's rows, decoded once: XGBoost goes through them several times, and a search's trials once again."""
    return {
        part: build_matrix(
            data,
            part,
            preprocessing,
            columns.names,
            context.cache or _own_cache(context),
            client=context.client,
            progress=context.progress,
            seed=None,
        )
        for part in PARTS[:2]
    }


def _own_cache(context: TrainContext) -> Path:
    return context.workdir / "matrices"


def _advancing(stage: Stage) -> Callable[[Runs], None]:
    return lambda found: stage.advance(1, rows=found.rows)


def _runs(call: tuple[Path, str]) -> Runs:
    return runs_of(*call)


def _check_enough(part: str, there: int, what: str, workers: int) -> None:
    if there < workers:
        raise TrainError(
            f'the part "{part}" has {there} {what} for {workers} workers',
            expected=f"at least one of its {what} per worker",
            hint="Use fewer workers.",
        )


def _facts(
    trainer: XGBoost,
    data: TrainingData,
    preprocessing: Preprocessing,
    seen: Mapping[str, Mapping[str, LabelProfile]],
    notes: Sequence[str],
) -> dict[str, Any]:
    facts = {f"trainer.{name}": value for name, value in trainer.model_dump(mode="json").items()}
    for part, found in seen.items():
        facts[f"rows.{part}"] = found[data.label].rows
        if trainer.objective.startswith("binary:"):
            facts[f"positives.{part}"] = found[data.label].ones
    kinds = [feature.kind for feature in preprocessing.features]
    facts |= {f"features.{kind}": kinds.count(kind) for kind in ("number", "bool", "category")}
    return facts | ({"notes": list(notes)} if notes else {})


def _identity(trainer: XGBoost, parts: Sequence[Part], preprocessing: Preprocessing) -> str:
    """A digest of all that the booster depends on; not of where its rows lie, or how often it may be disturbed."""
    import xgboost

    of = {
        "trainer": identity_of(trainer),
        "rows": [[part.matrix.digest, part.matrix.columns, _digest(part.queries)] for part in parts],
        "preprocessing": preprocessing.digest,
        "xgboost": xgboost.__version__,
        "edges": EDGES_FORMAT,
    }
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def _digest(queries: NDArray[np.int64] | None) -> str | None:
    return None if queries is None else hashlib.sha256(queries.tobytes()).hexdigest()


def _run(program: Program, context: TrainContext, decoding: float) -> GangResult[RankResult]:
    program.checkpoints.last()  # one of another training is refused before a rank starts
    rows = program.train.matrix.rows
    with context.progress.stage("training XGBoost", program.trainer.rounds, "rounds") as stage:
        rounds = _Rounds(context.recorder, stage, rows)
        result = run_gang(
            context.client,
            program,
            ranks=program.trainer.workers,
            recovery=program.trainer.recovery,
            rendezvous=Tracker(),
            told=rounds.hear,
            progress=context.progress,
            threads=context.threads,
            memory=program.trainer.memory_per_worker or 0,
        )
        ended = result.results[0]
        rounds.catch_up(ended.history, ended.rounds)
    if context.profile:
        own = result.results[0].seconds
        total = decoding + own["data"] + own["computing"] + own["communication"]
        seconds = {"decoding": decoding, **own, "total": total}
        context.recorder.metrics({f"seconds.{name}": value for name, value in seconds.items()})
    return result


def _of_gang(gang: GangResult[RankResult]) -> dict[str, Any]:
    """What became of the ranks, for whoever asks why it took so long, or why the bytes differ."""
    return {
        "gang.ranks": len(gang.results),
        "gang.attempts": gang.attempts,
        "gang.lost": [f"rank {one.rank} on {one.worker}, {one.seconds:.1f} s" for one in gang.lost],
        "gang.external": any(one.external for one in gang.results),
    }


class _Rounds:
    """Tells the recorder and the progress of every round once, in order, however often it was done."""

    def __init__(self, recorder: Recorder, stage: Stage, rows: int) -> None:
        self._recorder, self._stage, self._rows = recorder, stage, rows
        self._next = 0

    def hear(self, told: Told) -> None:
        if told.name == "round" and told.facts["round"] == self._next:
            self._tell(told.facts["metrics"], rows=self._rows)
        elif told.name == "resumed":
            self.catch_up(told.facts["history"], told.facts["rounds"])

    def catch_up(self, history: Mapping[str, Sequence[float]], rounds: int) -> None:
        """Tell those rounds that are known from a checkpoint only."""
        for round_ in range(self._next, rounds):
            self._tell({name: values[round_] for name, values in history.items()}, rows=0)

    def _tell(self, metrics: Mapping[str, float], *, rows: int) -> None:
        self._recorder.metrics(
            {f"validate_{name}": value for name, value in metrics.items()}, step=self._next
        )
        self._stage.advance(1, rows=rows)
        self._next += 1
