"""How a model is trained: the trainers' settings, and the simple models that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlflow_core.spec.model import Spec
from mlflow_core.spec.network import Network
from mlflow_core.spec.recovery import Recovery
from mlflow_core.spec.size import Size

__all__ = ["Baseline", "Family", "LogisticRegression", "Rate", "Sklearn", "Torch", "Trainer", "XGBoost"]


class XGBoost(Spec):
    """Gradient boosted trees.

    Training runs in segments of ``checkpoint_every`` rounds, each with a seed of its own, whether it is disturbed or
    not: a training that was resumed gives the same booster to the bit.

    Args:
        objective: XGBoost's name of the loss, e.g. ``"binary:logistic"``, ``"reg:squarederror"``.
        rounds: At most so many trees.
        early_stopping: Stop when the validation metric has not improved for so many rounds; 0 never stops.
        metric: XGBoost's name of the validation metric; by default the objective's own.
        max_depth: Depth of a tree.
        learning_rate: Shrinkage of each tree.
        subsample: Share of the rows that each tree sees.
        colsample: Share of the features that each tree sees.
        min_child_weight: Least weight of a leaf.
        l2: L2 penalty on leaf weights.
        max_bin: Bins of a feature's histogram.
        seed: Seed of everything random.
        workers: Ranks that train together; 1 uses all threads of one worker.
        weight: Column of each row's weight; None weighs all alike.
        group: Column whose equal values are one query of a ranking objective; a query is never split over ranks.
        bounds: Columns of the lower and the upper end of a censored label, for ``"survival:aft"``.
        targets: Further label columns beside the dataset's own: the trees give one value for each.
        classes: How many classes the label has, for the ``"multi:"`` objectives: it is 0 to classes - 1.
        class_weights: ``"balanced"`` weighs each class by the inverse of its frequency; or a weight by class.
        quantiles: The quantiles of ``"reg:quantileerror"``, each in (0, 1).
        monotone: By feature, 1 where the prediction may only rise with it, -1 where it may only fall.
        checkpoint_every: Rounds of a segment, after which a checkpoint is written.
        recovery: What happens when a worker is lost.
        device: ``"cpu"`` or ``"cuda"``.
        memory: Whether the binned rows are held ``"in_memory"`` or in files (``"external"``); ``"auto"`` decides by
            their size.
        memory_per_worker: What the process of each rank must be able to use, e.g. ``"8GiB"``, checked before anything is
            trained: a Dask worker by its memory limit, this process by what its machine has left. None checks nothing.
            It changes no model, and neither where rows are held, which is ``memory``.
        params: Further XGBoost parameters as they are.
    """

    kind: Literal["xgboost"] = "xgboost"
    objective: str = "binary:logistic"
    rounds: int = Field(default=200, ge=1)
    early_stopping: int = Field(default=0, ge=0)
    metric: str | None = None
    max_depth: int = Field(default=6, ge=0)
    learning_rate: float = Field(default=0.1, gt=0.0)
    subsample: float = Field(default=1.0, gt=0.0, le=1.0)
    colsample: float = Field(default=1.0, gt=0.0, le=1.0)
    min_child_weight: float = Field(default=1.0, ge=0.0)
    l2: float = Field(default=1.0, ge=0.0)
    max_bin: int = Field(default=256, ge=2)
    seed: int = 0
    workers: int = Field(default=1, ge=1)
    weight: str | None = None
    group: str | None = None
    bounds: tuple[str, str] | None = None
    targets: tuple[str, ...] = ()
    classes: int | None = Field(default=None, ge=2)
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    quantiles: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = ()
    monotone: dict[str, Literal[-1, 0, 1]] = {}
    checkpoint_every: int = Field(default=50, ge=1)
    recovery: Recovery = Recovery()
    device: Literal["cpu", "cuda"] = "cpu"
    memory: Literal["auto", "in_memory", "external"] = "auto"
    memory_per_worker: Size | None = None
    params: dict[str, Any] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns beside features and label that it reads: weight, group, bounds, further targets."""
        named = (self.weight, self.group, *(self.bounds or ()), *self.targets)
        return tuple(name for name in named if name is not None)


class Torch(Spec):
    """A network trained by gradient descent, with one rank a worker.

    Args:
        module: One of the built-in networks, or the import path of a ``torch.nn.Module``, e.g.
            ``"my_project.networks:Tower"``: it is called with the columns' description and ``arguments``.
        arguments: Arguments of a module named by import path, JSON-able.
        objective: What it learns: ``"binary"`` (a label of 0 and 1), ``"multiclass"`` (0 to classes - 1),
            ``"regression"`` (squared error), ``"quantile"`` (pinball loss), ``"reconstruction"`` (its own input; needs
            no label), ``"retrieval"`` (two towers; negatives are the other rows of a rank's share of the batch).
        classes: How many classes a ``"multiclass"`` label has.
        quantiles: The quantiles of ``"quantile"``, each in (0, 1).
        weight: Column of each row's weight; None weighs all alike.
        epochs: At most so many passes over the training part.
        batch_size: Rows of one step of the optimiser, over all ranks.
        accumulate: Split each rank's share of a batch into so many parts, whose gradients are summed.
        learning_rate: Of AdamW, at its greatest.
        weight_decay: Of AdamW; biases, norms and embeddings have none.
        schedule: How the learning rate goes: ``"constant"``, ``"cosine"`` to zero, or ``"linear"`` to zero.
        warmup: Share of all steps in which it first rises from zero.
        clip: Greatest norm of the gradient; None does not clip.
        precision: ``"float32"``, or ``"bf16"`` or ``"fp16"`` mixed with it.
        ema: Decay of the moving average of the weights that is validated and kept; None keeps the weights.
        early_stopping: Stop after so many epochs without a better validation loss; 0 never stops.
        checkpoint_every: Steps between two checkpoints; None writes one each epoch.
        recovery: What happens when a worker is lost.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for what the workers have.
        seed: Seed of everything random.
        workers: Ranks that train together; 1 uses all threads of one worker.
        memory_per_worker: What the process of each rank must be able to use, e.g. ``"8GiB"``, checked before anything is
            trained: a Dask worker by its memory limit, this process by what its machine has left. None checks nothing.
    """

    kind: Literal["torch"] = "torch"
    module: Network | str
    arguments: dict[str, Any] = {}
    objective: Literal["binary", "multiclass", "regression", "quantile", "reconstruction", "retrieval"] = (
        "binary"
    )
    classes: int | None = Field(default=None, ge=2)
    quantiles: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = ()
    weight: str | None = None
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=1e-2, ge=0.0)
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    clip: float | None = Field(default=1.0, gt=0.0)
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    early_stopping: int = Field(default=0, ge=0)
    checkpoint_every: int | None = Field(default=None, ge=1)
    recovery: Recovery = Recovery()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    workers: int = Field(default=1, ge=1)
    memory_per_worker: Size | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns beside features and label that it reads."""
        return (self.weight,) if self.weight is not None else ()

    @field_validator("module")
    @classmethod
    def _is_import_path(cls, module: Network | str) -> Network | str:
        if isinstance(module, str):
            package, colon, name = module.partition(":")
            if not colon or not all(part.isidentifier() for part in (*package.split("."), name)):
                raise ValueError(f'"{module}" is not an import path such as "my_project.networks:Tower"')
        return module

    @model_validator(mode="after")
    def _fits_together(self) -> Torch:
        if self.arguments and not isinstance(self.module, str):
            raise ValueError('"arguments" goes with a module named by import path')
        if (self.objective == "multiclass") != (self.classes is not None):
            raise ValueError('"classes" goes with the objective "multiclass"')
        if (self.objective == "quantile") != bool(self.quantiles):
            raise ValueError('"quantiles" goes with the objective "quantile"')
        return self


class Sklearn(Spec):
    """A scikit-learn estimator, trained in one process on all rows at once.

    Args:
        estimator: Import path of the class, e.g. ``"sklearn.ensemble:HistGradientBoostingClassifier"``.
        arguments: Its arguments, JSON-able.
        objective: ``"binary"``, ``"multiclass"``, ``"regression"``, or ``"anomaly"``, which needs no label: greater
            values are more unusual.
        weight: Column of each row's weight; None weighs all alike.
        seed: Its ``random_state``, where it takes one.
    """

    kind: Literal["sklearn"] = "sklearn"
    estimator: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    arguments: dict[str, Any] = {}
    objective: Literal["binary", "multiclass", "regression", "anomaly"] = "binary"
    weight: str | None = None
    seed: int = 0
    workers: Literal[1] = 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns beside features and label that it reads."""
        return (self.weight,) if self.weight is not None else ()


class Family(Spec):
    """One model for each entity, and one of all rows for those that are small or new.

    Args:
        trainer: How each of the models is trained.
        by: Features whose values tell the entities apart: numbers, booleans or strings among the model's features.
        least_rows: Entities with fewer training rows than this are predicted by the model of all rows.
    """

    kind: Literal["family"] = "family"
    trainer: XGBoost | Torch | Sklearn = Field(discriminator="kind")
    by: tuple[str, ...] = Field(min_length=1)
    least_rows: int = Field(default=500, ge=1)

    @property
    def objective(self) -> str:
        """The members' objective."""
        return self.trainer.objective

    @property
    def seed(self) -> int:
        """The members' seed."""
        return self.trainer.seed

    @property
    def workers(self) -> int:
        """Ranks of the model of all rows; each of the others is trained by one."""
        return self.trainer.workers

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns beside features and label that the members read."""
        return self.trainer.columns

    @field_validator("by")
    @classmethod
    def _each_once(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(by)) < len(by):
            raise ValueError("names a feature twice")
        return by


class Rate(Spec):
    """The baseline that predicts the label's mean in the training part for every row."""

    kind: Literal["rate"] = "rate"


class LogisticRegression(Spec):
    """The baseline of a logistic regression on some of the dataset's columns.

    Args:
        columns: Feature columns it reads; numbers are standardised, strings one-hot encoded. Empty reads all
            features that come from the request.
        l2: Strength of the L2 penalty.
        seed: Seed of the solver.
    """

    kind: Literal["logistic_regression"] = "logistic_regression"
    columns: tuple[str, ...] = ()
    l2: float = Field(default=1.0, gt=0.0)
    seed: int = 0

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            columns: Sequence[str] = (),
            l2: float = 1.0,
            seed: int = 0,
        ) -> None: ...


Trainer = Annotated[XGBoost | Torch | Sklearn | Family, Field(discriminator="kind")]
Baseline = Annotated[Rate | LogisticRegression, Field(discriminator="kind")]
