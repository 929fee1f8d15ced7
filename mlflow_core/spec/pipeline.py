"""Training pipelines: from a dataset to a registered model, and what the model must show on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mlflow_core.errors import nearest
from mlflow_core.spec.dataset import Dataset
from mlflow_core.spec.model import NAME, Named, Spec
from mlflow_core.spec.trainer import Baseline, LogisticRegression, Rate, Trainer, XGBoost

__all__ = ["METRICS", "Gate", "Register", "TrainingPipeline"]

METRICS = {
    "auc": "classification",
    "average_precision": "classification",
    "log_loss": "classification",
    "brier": "classification",
    "accuracy": "classification",
    "rmse": "regression",
    "mae": "regression",
    "r2": "regression",
}
"""The metrics of ``evaluate`` and the task each one is for."""


class Gate(Spec):
    """What a model must reach on the test part before it is registered.

    Args:
        metric: The metric compared, one of the pipeline's ``evaluate``.
        better_than: ``"champion"`` (a first model has none and passes), ``"baselines"`` (each of them), or None.
        margin: By how much it must be better: the lower end of the paired 95 % interval is above this.
        at_least: Least value of metrics where greater is better, greatest of those where smaller is better.
        worst_slice: The same for the worst slice of each column in ``slices``.
    """

    metric: str = "auc"
    better_than: Literal["champion", "baselines"] | None = None
    margin: float = 0.0
    at_least: dict[str, float] = {}
    worst_slice: dict[str, float] = {}


class Register(Spec):
    """Under which name a model is registered.

    Args:
        model: The model's name.
        alias: The alias that moves to the new version.
    """

    positional: ClassVar[tuple[str, ...]] = ("model",)
    model: str
    alias: str = "candidate"

    if TYPE_CHECKING:

        def __init__(
            self,
            model: str,
            *,
            alias: str = "candidate",
        ) -> None: ...

    @field_validator("model", "alias")
    @classmethod
    def _names(cls, name: str) -> str:
        if not NAME.match(name):
            raise ValueError(f'"{name}" is not a name of letters, digits and underscores')
        return name


class TrainingPipeline(Named):
    """A dataset, a trainer, what is measured, what must hold, and where the model goes.

    Args:
        name: The pipeline's name.
        data: The dataset.
        trainer: The trainer with its settings.
        evaluate: Metrics on the test part.
        slices: Columns whose values cut the test part into slices.
        baselines: Simple models trained on the same rows for comparison.
        gate: What must hold before the model is registered; None registers always.
        register_as: Where the model goes; by default the pipeline's own name. Written ``register=`` in specs.
    """

    data: Dataset
    trainer: Trainer
    evaluate: tuple[str, ...] = Field(default=("auc", "log_loss", "brier"))
    slices: tuple[str, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    gate: Gate | None = None
    register_as: Register | None = Field(default=None, alias="register")

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            data: Dataset,
            trainer: XGBoost,
            evaluate: Sequence[str] = ...,
            slices: Sequence[str] = (),
            baselines: Sequence[Rate | LogisticRegression] = (),
            gate: Gate | None = None,
            register: Register | None = None,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @field_validator("evaluate")
    @classmethod
    def _known_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for metric in metrics:
            if metric not in METRICS:
                raise ValueError(f'"{metric}" is not a metric. {nearest(metric, METRICS)}')
        if not metrics:
            raise ValueError("is empty; a pipeline measures at least one metric")
        return metrics

    @model_validator(mode="after")
    def _gate_is_measured(self) -> TrainingPipeline:
        if self.gate is not None:
            for metric in (self.gate.metric, *self.gate.at_least, *self.gate.worst_slice):
                if metric not in self.evaluate:
                    raise ValueError(f'the gate asks for "{metric}", which "evaluate" does not measure')
            if self.gate.worst_slice and not self.slices:
                raise ValueError('the gate limits the worst slice, but "slices" names no columns')
            if self.gate.better_than == "baselines" and not self.baselines:
                raise ValueError('the gate compares with baselines, but "baselines" names none')
        return self

    @property
    def model(self) -> str:
        """The registered model's name."""
        return self.register_as.model if self.register_as else self.name

    @property
    def alias(self) -> str:
        """The alias that moves to a new version."""
        return self.register_as.alias if self.register_as else "candidate"
