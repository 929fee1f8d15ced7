"""The simple models that a trained one must beat: what the label is anyway, and a logistic regression on a few columns.

They are fitted on the same training rows and predict with the same call. They are for comparison only: nothing
saves or serves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.metric import Task, task_of
from mlflow_core.spec.trainer import Baseline, Family, LogisticRegression, Rate, Torch, Trainer, XGBoost
from mlflow_core.train.data.preprocess import Feature, as_floats, kind_of
from mlflow_core.train.data.profile import check_label, merge, profile_shard
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.metrics import Floats

__all__ = ["FittedBaseline", "check_baselines", "fit_baseline"]


class FittedBaseline(Protocol):
    """A baseline that has seen the training part."""

    @property
    def name(self) -> str:
        """What reports call it: ``rate`` or ``logistic_regression``."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        ...

    def predict(self, table: pa.Table) -> Floats:
        """Predict each row, float64: (n_rows,), or (n_rows, k), a column a class, quantile or target."""
        ...


def check_baselines(baselines: Sequence[Baseline]) -> None:
    """Refuse, before anything is computed, baselines whose library is not installed.

    Args:
        baselines: Their settings.

    Raises:
        TrainError: One needs scikit-learn, which is not installed; names the extra.
    """
    for baseline in baselines:
        if isinstance(baseline, LogisticRegression):
            _estimator_of(baseline)


def fit_baseline(baseline: Baseline, data: TrainingData, trainer: Trainer | None = None) -> FittedBaseline:
    """Fit a baseline on the training part, in this process.

    Args:
        baseline: Its settings.
        data: The training set; only the label and the columns it needs are read.
        trainer: The trainer of the model that it stands beside: it predicts the same kind of values. None for a
            probability or a quantity.

    Raises:
        TrainError: A column does not exist, the label is not what the task needs, or scikit-learn is not installed.
    """
    if isinstance(trainer, Family):
        trainer = trainer.trainer
    task = task_of(trainer) if trainer is not None else "classification"
    if isinstance(baseline, Rate):
        targets = trainer.targets if isinstance(trainer, XGBoost) else ()
        labels = [_label(data, name) for name in (data.label, *targets)]
        return _Rate(
            np.array([label.mean() for label in labels]) if targets else _constant(labels[0], task, trainer)
        )
    if task not in ("classification", "multiclass"):
        raise TrainError(
            f'a logistic regression predicts classes, and the task is "{task}"',
            object="LogisticRegression",
            place=baseline.place,
            hint="Compare with Rate(), which predicts the label's mean, or leave it out.",
        )
    return _fit_logistic(baseline, data, _classes(trainer), several=task == "multiclass")


@dataclass(frozen=True)
class _Rate:
    """The same prediction for every row: one value, or one for each class, quantile or target."""

    constant: Floats
    name: str = "rate"
    columns: tuple[str, ...] = ()

    def predict(self, table: pa.Table) -> Floats:
        return np.repeat(self.constant[None], table.num_rows, axis=0)


@dataclass(frozen=True)
class _Logistic:
    """Column blocks of one design matrix, and the estimator on it."""

    columns: tuple[str, ...]
    blocks: tuple[_Number | _OneHot, ...]
    estimator: Any
    classes: int | None = None
    name: str = "logistic_regression"

    def predict(self, table: pa.Table) -> Floats:
        found = np.asarray(self.estimator.predict_proba(_design(self.blocks, table)), dtype=np.float64)
        if self.classes is None:
            return np.ascontiguousarray(found[:, 1])
        probabilities = np.zeros((table.num_rows, self.classes))  # a class that training never saw has 0
        probabilities[:, self.estimator.classes_] = found
        return probabilities


@dataclass(frozen=True)
class _Number:
    """A number, standardised; a missing one becomes the mean and raises a flag of its own."""

    name: str
    mean: float
    scale: float

    def block(self, column: pa.ChunkedArray) -> Any:
        from scipy import sparse

        values = as_floats(column)
        missing = ~np.isfinite(values)
        standard = np.where(missing, 0.0, (np.where(missing, 0.0, values) - self.mean) / self.scale)
        return sparse.csr_matrix(np.column_stack([standard, missing.astype(np.float64)]))


@dataclass(frozen=True)
class _OneHot:
    """A category, one column each; a missing or never seen one has the last column."""

    feature: Feature

    def block(self, column: pa.ChunkedArray) -> Any:
        import pyarrow.compute as pc
        from scipy import sparse

        codes = as_floats(pc.index_in(column.cast(pa.string()), value_set=self.feature.dictionary))
        width = len(self.feature.categories)
        where: NDArray[np.int64] = np.where(np.isnan(codes), width, codes).astype(np.int64)
        rows = np.arange(len(where))
        return sparse.csr_matrix((np.ones(len(where)), (rows, where)), shape=(len(where), width + 1))


def _estimator_of(baseline: LogisticRegression) -> Any:
    """Return the class that fits it."""
    try:
        from sklearn.linear_model import LogisticRegression as Estimator
    except ImportError:
        raise TrainError(
            "the baseline needs scikit-learn, which is not installed",
            object="LogisticRegression",
            place=baseline.place,
            hint='Install the extra: pip install "mlflow-core[sklearn]", or leave the baseline out.',
        ) from None
    return Estimator


def _label(data: TrainingData, name: str) -> Floats:
    label = as_floats(data.read("train", [name]).column(name))
    if not len(label) or not np.isfinite(label).all():
        raise TrainError(f'label "{name}" in the part "train" is empty, null or infinite somewhere')
    return label


def _constant(label: Floats, task: Task, trainer: Trainer | None) -> Floats:
    """What is best without looking at a row: the mean, the shares of the classes, the label's own quantiles."""
    if task == "multiclass":
        classes = _classes(trainer) or int(label.max()) + 1
        return np.bincount(label.astype(np.int64), minlength=classes) / len(label)
    if isinstance(trainer, XGBoost | Torch) and trainer.quantiles:
        return np.quantile(label, trainer.quantiles)
    return np.asarray(label.mean(), dtype=np.float64)


def _classes(trainer: Trainer | None) -> int | None:
    return trainer.classes if isinstance(trainer, XGBoost | Torch) else None


def _fit_logistic(
    baseline: LogisticRegression, data: TrainingData, classes: int | None, *, several: bool
) -> _Logistic:
    estimator_of = _estimator_of(baseline)
    columns = _columns(baseline, data)
    profiles = [profile_shard(path, data.label, columns, with_features=True) for path in data.files("train")]
    preprocessing, _, label = merge(profiles, columns)
    if several and classes is None:
        classes = int(label.greatest) + 1 if np.isfinite(label.greatest) else 2
    check_label("train", data.label, label, binary=not several, classes=classes)
    table = data.read("train", [*columns, data.label])
    blocks = tuple(_block(feature, table.column(feature.name)) for feature in preprocessing.features)
    estimator = estimator_of(C=1 / baseline.l2, max_iter=300, tol=1e-4, random_state=baseline.seed)
    estimator.fit(_design(blocks, table), as_floats(table.column(data.label)).astype(np.int64))
    return _Logistic(columns, blocks, estimator, classes)


def _columns(baseline: LogisticRegression, data: TrainingData) -> tuple[str, ...]:
    columns = baseline.columns or data.request
    if not columns:
        raise TrainError(
            "names no columns, and no feature comes from the request",
            object="LogisticRegression",
            place=baseline.place,
            hint='Name some: LogisticRegression(columns=("distance", ...)).',
        )
    for column in columns:
        if column not in data.features:
            raise TrainError(
                f'"{column}" is not a feature of the dataset',
                object="LogisticRegression",
                place=baseline.place,
                hint=nearest(column, data.features),
            )
    return tuple(columns)


def _block(feature: Feature, column: pa.ChunkedArray) -> _Number | _OneHot:
    if feature.kind == "category" or kind_of(feature.name, column.type) == "category":
        return _OneHot(feature)
    values = as_floats(column)
    known = values[np.isfinite(values)]
    scale = float(known.std()) if len(known) else 0.0
    return _Number(feature.name, float(known.mean()) if len(known) else 0.0, scale or 1.0)


def _design(blocks: Sequence[_Number | _OneHot], table: pa.Table) -> Any:
    from scipy import sparse

    made = []
    for block in blocks:
        name = block.name if isinstance(block, _Number) else block.feature.name
        if name not in table.column_names:
            raise TrainError(f'the baseline needs the column "{name}", which was not given')
        made.append(block.block(table.column(name)))
    return sparse.hstack(made, format="csr")
