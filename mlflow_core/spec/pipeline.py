"""Training pipelines: from a dataset to a registered model, and what the model must show on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mlflow_core.spec.dataset import Dataset
from mlflow_core.spec.metric import (
    METRICS,
    default_metrics,
    has_one_quantile,
    parse_metric,
    task_of,
    tasks_of,
)
from mlflow_core.spec.model import NAME, Named, Spec
from mlflow_core.spec.schedule import Schedule
from mlflow_core.spec.search import Search
from mlflow_core.spec.step import Step
from mlflow_core.spec.steps import PRODUCTS, check_steps
from mlflow_core.spec.trainer import (
    Baseline,
    Family,
    LogisticRegression,
    Rate,
    Sklearn,
    Torch,
    Trainer,
    XGBoost,
)

__all__ = ["METRICS", "Gate", "Register", "TrainingPipeline"]


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
        search: How better settings are looked for; None takes the trainer as it is.
        evaluate: Metrics on the test part; by default those of ``default_metrics`` for the trainer. The first
            is the one that reports lead with.
        slices: Columns whose values cut the test part into slices.
        baselines: Simple models trained on the same rows for comparison.
        gate: What must hold before the model is registered; None registers always.
        register_as: Where the model goes; by default the pipeline's own name. Written ``register=`` in specs.
        steps: Steps of the user's own, which may read "dataset", "model", "evaluation" and each other. Those that need no
            model come before the training, and the model is registered when all of them have ended well.
        retries: How often a step of the pipeline's own is tried again after it lost its cluster; steps of the user's have
            their own.
        schedule: When it is started by itself; no part of what it computes.
    """

    data: Dataset
    trainer: Trainer
    search: Search | None = None
    evaluate: tuple[str, ...] = Field(default=("auc", "log_loss", "brier"))
    slices: tuple[str, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    gate: Gate | None = None
    register_as: Register | None = Field(default=None, alias="register")
    steps: tuple[Step, ...] = ()
    retries: int = Field(default=1, ge=0)
    schedule: Schedule | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            data: Dataset,
            trainer: XGBoost | Torch | Sklearn | Family,
            search: Search | None = None,
            evaluate: Sequence[str] = ...,
            slices: Sequence[str] = (),
            baselines: Sequence[Rate | LogisticRegression] = (),
            gate: Gate | None = None,
            register: Register | None = None,
            steps: Sequence[Step] = (),
            retries: int = 1,
            schedule: Schedule | None = None,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _metrics_of_the_task(cls, fields: Any) -> Any:
        trainer = fields.get("trainer") if isinstance(fields, dict) else None
        if isinstance(trainer, XGBoost | Torch | Sklearn | Family) and "evaluate" not in fields:
            return {**fields, "evaluate": default_metrics(trainer)}
        return fields

    @field_validator("evaluate")
    @classmethod
    def _known_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for metric in metrics:
            parse_metric(metric)
        if not metrics:
            raise ValueError("is empty; a pipeline measures at least one metric")
        return metrics

    @model_validator(mode="after")
    def _metrics_fit_the_task(self) -> TrainingPipeline:
        task = task_of(self.trainer)
        for metric in self.evaluate:
            if task not in tasks_of(metric):
                fitting = ", ".join(name for name, tasks in METRICS.items() if task in tasks)
                raise ValueError(
                    f'"{metric}" does not measure a model of the task "{task}", which the trainer\'s objective gives; '
                    f"these do: {fitting}"
                )
            if metric in ("coverage_error", "crossing") and has_one_quantile(self.trainer):
                raise ValueError(f'"{metric}" needs at least two quantiles, and the trainer has one')
        return self

    @model_validator(mode="after")
    def _can_be_measured(self) -> TrainingPipeline:
        own = self.trainer.trainer if isinstance(self.trainer, Family) else self.trainer
        task = task_of(own)
        if isinstance(own, Torch) and task == "ranking":
            raise ValueError(
                f'the objective "{own.objective}" is not for a pipeline: its model is measured by query, and Torch names no '
                'column of queries; train it with train.fit, or rank with XGBoost(objective="rank:ndcg", group=...)'
            )
        logistic = any(isinstance(one, LogisticRegression) for one in self.baselines)
        if logistic and task not in ("classification", "multiclass"):
            raise ValueError(
                f'the baseline LogisticRegression() predicts classes, and the trainer\'s objective gives the task "{task}"; '
                "compare with Rate(), or leave it out"
            )
        return self

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

    @model_validator(mode="after")
    def _steps_fit(self) -> TrainingPipeline:
        check_steps(self.steps, PRODUCTS)
        return self

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that the dataset keeps beside features and label: those of slices, and what the trainer reads."""
        return tuple(dict.fromkeys((*self.slices, *self.trainer.columns)))

    @property
    def model(self) -> str:
        """The registered model's name."""
        return self.register_as.model if self.register_as else self.name

    @property
    def alias(self) -> str:
        """The alias that moves to a new version."""
        return self.register_as.alias if self.register_as else "candidate"
