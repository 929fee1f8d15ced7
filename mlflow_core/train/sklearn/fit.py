"""Fit a scikit-learn estimator: in this process, on all rows at once, which are counted before they are read.

The training part alone is opened: an estimator that stops early does it by its own means. How missing values and
categories reach it is in ``models.encoding``.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.trainer import Sklearn
from mlflow_core.telemetry.progress import Progress
from mlflow_core.train.context import TrainContext
from mlflow_core.train.data.label import LabelProfile, check_label, check_weights
from mlflow_core.train.data.pieces import read_piece
from mlflow_core.train.data.preprocess import Preprocessing, as_floats
from mlflow_core.train.data.profile import ShardProfile, merge, merge_further, pieces
from mlflow_core.train.data.survey import survey
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.encoding import Encoding
from mlflow_core.train.models.estimator import EstimatorScorer, Output
from mlflow_core.train.models.extras import check_installed
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.persisted import estimator_class
from mlflow_core.train.models.scorer import Task

__all__ = ["check_memory", "fit"]

_OUTPUTS: Mapping[str, tuple[Task, Output]] = {
    "binary": ("classification", "probability"),
    "multiclass": ("multiclass", "probabilities"),
    "regression": ("regression", "value"),
    "anomaly": ("anomaly", "unusual"),
}
_COPIES = 2
"""An estimator keeps about as much again as it is given: bins, sorted columns, a contiguous copy."""


class _Rows(NamedTuple):
    matrix: NDArray[np.float32]
    label: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None


def fit(trainer: Sklearn, data: TrainingData, context: TrainContext) -> Model:
    """Fit an estimator on the training part.

    Args:
        trainer: The estimator with its arguments.
        data: The training set.
        context: Whom it tells; it runs in this process, whatever the cluster.

    Returns:
        The model. What scikit-learn warned of while it was fitted is among the notes.

    Raises:
        TrainError: The estimator is unknown, refuses its arguments or the data, does not fit the objective, or the
            rows do not fit into memory.
    """
    check_installed("sklearn", "the trainer Sklearn")
    estimator = _made(trainer)
    task, output = _OUTPUTS[trainer.objective]
    _check_objective(trainer, estimator)
    label_column = "" if trainer.objective == "anomaly" else data.label
    profiles = survey(
        data,
        further=trainer.columns,
        labelled=bool(label_column),
        parts=("train",),
        progress=context.progress,
    )["train"]
    preprocessing, notes, label = merge(profiles, data.features)
    classes = _check(trainer, label_column, label, profiles)
    encoding = Encoding.of(estimator, preprocessing)
    _check_features(trainer, estimator, encoding, profiles)
    rows = sum(sum(profile.groups) for profile in profiles)
    check_memory(rows, len(preprocessing.columns), encoding)
    context.recorder.params(_facts(trainer, preprocessing, rows, label))
    began = time.monotonic()
    read = _read(trainer, profiles, preprocessing, label_column, rows, context.progress)
    ready = time.monotonic()
    with context.progress.stage(f"fitting {type(estimator).__name__}"):
        said = _fitted(trainer, estimator, encoding, read)
    if context.profile:
        seconds = {
            "data": ready - began,
            "computing": time.monotonic() - ready,
            "total": time.monotonic() - began,
        }
        context.recorder.metrics({f"seconds.{what}": spent for what, spent in seconds.items()})
    return Model(
        preprocessing=preprocessing,
        label=label_column,
        request=data.request,
        objective=trainer.objective,
        task=task,
        scorer=EstimatorScorer.of(estimator, trainer.estimator, encoding, output),
        outputs=tuple(str(code) for code in range(classes)) if output == "probabilities" else (),
        notes=(*notes, *_imputed(encoding, profiles), *said),
        metadata={"trainer": trainer.model_dump(mode="json")},
    )


def check_memory(rows: int, columns: int, encoding: Encoding, *, limit: int | None = None) -> None:
    """Refuse rows that cannot be held in memory at once.

    Args:
        rows: How many.
        columns: Columns of the model's matrix.
        encoding: What the estimator sees of it.
        limit: Bytes that there are; by default what this process may use.

    Raises:
        TrainError: Says how much is needed and how much there is.
    """
    from distributed.system import MEMORY_LIMIT

    there = MEMORY_LIMIT if limit is None else limit
    seen = encoding.bytes_per_row or 4 * columns
    needed = rows * (4 * columns + _COPIES * seen + 24)
    if needed > there:
        raise TrainError(
            f"{rows:,} rows of {columns:,} features, {encoding.width:,} columns for the estimator, take about "
            f"{needed / 1e9:,.1f} GB, but there are {there / 1e9:,.1f} GB",
            object="Sklearn",
            expected="a training part that fits into memory at once",
            hint="Use XGBoost or Torch, which read it in pieces, or a smaller part of the rows.",
        )


def _made(trainer: Sklearn) -> Any:
    kind = estimator_class(trainer.estimator, place=trainer.place)
    known = [name for name in inspect.signature(kind).parameters if name != "self"]
    for name in trainer.arguments:
        if name not in known:
            raise TrainError(
                f'{kind.__name__} has no argument "{name}"', place=trainer.place, hint=nearest(name, known)
            )
    seed = {"random_state": trainer.seed} if "random_state" in known else {}
    try:
        return kind(**seed | trainer.arguments)
    except (TypeError, ValueError) as error:
        raise TrainError(f"{kind.__name__} refuses its arguments: {error}", place=trainer.place) from None


def _check_objective(trainer: Sklearn, estimator: Any) -> None:
    from sklearn.base import is_classifier, is_regressor

    name = type(estimator).__name__
    match trainer.objective:
        case "binary" | "multiclass":
            fits, expected = is_classifier(estimator), "a classifier"
            if fits and not hasattr(estimator, "predict_proba"):
                raise TrainError(
                    f"{name} gives no probabilities",
                    place=trainer.place,
                    expected="a classifier with predict_proba",
                    hint="Look for an argument of it that turns them on, or use LogisticRegression.",
                )
        case "regression":
            fits, expected = is_regressor(estimator), "a regressor"
        case _:
            fits = hasattr(estimator, "score_samples") or hasattr(estimator, "decision_function")
            fits &= not is_classifier(estimator) and not is_regressor(estimator)
            expected = "an estimator of how usual a row is, such as IsolationForest"
    if not fits:
        raise TrainError(
            f'{name} does not go with the objective "{trainer.objective}"',
            place=trainer.place,
            expected=expected,
        )
    if trainer.weight is not None and "sample_weight" not in inspect.signature(estimator.fit).parameters:
        raise TrainError(f"{name} takes no weights of rows", place=trainer.place, hint='Leave out "weight".')


def _check(trainer: Sklearn, name: str, label: LabelProfile, profiles: tuple[ShardProfile, ...]) -> int:
    """Refuse labels and weights that cannot be fitted to; the number of classes."""
    classes = 0
    if not any(sum(profile.groups) for profile in profiles):
        raise TrainError('the part "train" of the dataset has no rows', hint="Move the cuts of the split.")
    if trainer.objective == "multiclass" and np.isfinite(label.greatest):
        classes = int(label.greatest) + 1
    if trainer.objective != "anomaly":
        check_label("train", name, label, binary=trainer.objective == "binary", classes=classes or None)
    absent = [code for code in range(classes) if code not in (label.counts or ())]
    if absent:
        raise TrainError(
            f'label "{name}" is {absent[0]} in no training row, but {classes - 1} in some',
            expected=f"each class from 0 to {classes - 1} in the training part",
        )
    if trainer.weight is not None:
        check_weights("train", trainer.weight, merge_further(profiles, trainer.weight))
    return classes


def _check_features(
    trainer: Sklearn, estimator: Any, encoding: Encoding, profiles: tuple[ShardProfile, ...]
) -> None:
    name = type(estimator).__name__
    if encoding.numbers == "standardised":
        for feature in encoding.features:
            infinite = sum(
                one.columns[feature.name].infinite for one in profiles if feature.name in one.columns
            )
            if infinite:
                raise TrainError(
                    f'feature "{feature.name}" is infinite in {infinite:,} training rows, which {name} cannot take',
                    place=trainer.place,
                    hint="Bound it in an on-demand feature, or use an estimator of trees.",
                )
    if columns := encoding.category_columns:
        bins = getattr(estimator, "max_bins", None)
        for feature in encoding.features:
            if bins is not None and len(feature.categories) > bins:
                raise TrainError(
                    f'feature "{feature.name}" has {len(feature.categories):,} categories',
                    place=trainer.place,
                    expected=f"at most {bins:,}, which {name} can tell apart",
                    hint="Use XGBoost or Torch, or leave it out of the feature service.",
                )
        if "categorical_features" not in trainer.arguments:
            estimator.set_params(categorical_features=columns)


def _facts(trainer: Sklearn, preprocessing: Preprocessing, rows: int, label: LabelProfile) -> dict[str, Any]:
    facts = {f"trainer.{name}": value for name, value in trainer.model_dump(mode="json").items()}
    facts["rows.train"] = rows
    if trainer.objective == "binary":
        facts["positives.train"] = label.ones
    kinds = [feature.kind for feature in preprocessing.features]
    return facts | {f"features.{kind}": kinds.count(kind) for kind in ("number", "bool", "category")}


def _read(
    trainer: Sklearn,
    profiles: tuple[ShardProfile, ...],
    preprocessing: Preprocessing,
    label: str,
    rows: int,
    progress: Progress,
) -> _Rows:
    wanted = list(dict.fromkeys([*preprocessing.names, *([label] if label else []), *trainer.columns]))
    read = _Rows(
        np.empty((rows, len(preprocessing.columns)), np.float32),
        np.empty(rows) if label else None,
        np.empty(rows) if trainer.weight is not None else None,
    )
    at = 0
    with progress.stage("reading the training part", rows, "rows") as stage:
        for piece in pieces(profiles):
            table: pa.Table = read_piece(piece, wanted)
            here = slice(at, at + table.num_rows)
            read.matrix[here] = preprocessing.matrix(table)
            if read.label is not None:
                read.label[here] = as_floats(table.column(label))
            if read.weights is not None:
                read.weights[here] = as_floats(table.column(trainer.weight))
            at = here.stop
            stage.advance(table.num_rows)
    return read


def _fitted(trainer: Sklearn, estimator: Any, encoding: Encoding, rows: _Rows) -> list[str]:
    """Fit it in place; what scikit-learn warned of."""
    label = rows.label
    if label is not None and trainer.objective in ("binary", "multiclass"):
        label = label.astype(np.int64)
    weights = {} if rows.weights is None else {"sample_weight": rows.weights}
    given = encoding.apply(rows.matrix)
    name = type(estimator).__name__
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            estimator.fit(given, **({} if label is None else {"y": label}), **weights)
        except (ValueError, TypeError, np.linalg.LinAlgError) as error:
            raise TrainError(f"{name} refuses: {error}", place=trainer.place) from error
    if "n_jobs" in trainer.arguments:
        # Threads add up floats in the order in which they end; and one row is not worth waking them.
        estimator.set_params(n_jobs=None)
    return list(dict.fromkeys(f"{name}: {' '.join(str(one.message).split())}" for one in said))


def _imputed(encoding: Encoding, profiles: tuple[ShardProfile, ...]) -> list[str]:
    """A note for each number that the estimator does not see as it is."""
    if encoding.numbers == "as_they_are":
        return []
    notes = []
    for feature in encoding.features:
        if feature.kind == "category":
            continue
        seen = [one.columns[feature.name] for one in profiles if feature.name in one.columns]
        missing, rows = sum(one.missing for one in seen), sum(one.rows for one in seen)
        if 0 < missing < rows:
            notes.append(
                f'feature "{feature.name}" is missing in {missing:,} of {rows:,} training rows; the estimator takes '
                f"its mean, {feature.mean:.6g}, there"
            )
    return notes
