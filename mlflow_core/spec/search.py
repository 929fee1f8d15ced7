"""Searches over a trainer's settings, and how their trials are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mlflow_core.spec.duration import Duration
from mlflow_core.spec.model import Spec

__all__ = ["Choice", "CrossValidation", "Dimension", "Float", "Int", "LogFloat", "Search"]


class Int(Spec):
    """A whole number between two bounds, both included.

    Args:
        low: The least.
        high: The greatest.
        log: Whether it is drawn on a logarithmic scale.
    """

    positional: ClassVar[tuple[str, ...]] = ("low", "high")
    kind: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False

    if TYPE_CHECKING:

        def __init__(self, low: int, high: int, *, log: bool = False) -> None: ...

    @model_validator(mode="after")
    def _is_a_range(self) -> Int:
        _check_range(self.low, self.high, log=self.log)
        return self


class Float(Spec):
    """A number between two bounds, both included.

    Args:
        low: The least.
        high: The greatest.
    """

    positional: ClassVar[tuple[str, ...]] = ("low", "high")
    kind: Literal["float"] = "float"
    low: float
    high: float

    if TYPE_CHECKING:

        def __init__(self, low: float, high: float) -> None: ...

    @model_validator(mode="after")
    def _is_a_range(self) -> Float:
        _check_range(self.low, self.high, log=False)
        return self


class LogFloat(Spec):
    """A number between two bounds, drawn on a logarithmic scale.

    Args:
        low: The least, above 0.
        high: The greatest.
    """

    positional: ClassVar[tuple[str, ...]] = ("low", "high")
    kind: Literal["log_float"] = "log_float"
    low: float
    high: float

    if TYPE_CHECKING:

        def __init__(self, low: float, high: float) -> None: ...

    @model_validator(mode="after")
    def _is_a_range(self) -> LogFloat:
        _check_range(self.low, self.high, log=True)
        return self


class Choice(Spec):
    """One of some values.

    Args:
        options: The values: numbers, booleans, strings, or None.
    """

    positional: ClassVar[tuple[str, ...]] = ("options",)
    kind: Literal["choice"] = "choice"
    options: tuple[int | float | bool | str | None, ...] = Field(min_length=1)

    if TYPE_CHECKING:

        def __init__(self, options: Sequence[Any]) -> None: ...


Dimension = Annotated[Int | Float | LogFloat | Choice, Field(discriminator="kind")]


class CrossValidation(Spec):
    """Folds in time: each is validated on the rows after those that it trained on.

    Args:
        folds: How many.
        embargo: Time left out between the end of a fold's training rows and its validation rows.
        window: How far back a fold trains; None goes back to the start.
    """

    folds: int = Field(default=3, ge=2)
    embargo: Duration = Duration("0s")
    window: Duration | None = None


class Search(Spec):
    """A search over a trainer's settings, judged on the validation part or on folds of the training part.

    The settings as they are written are not one of the trials.

    Args:
        trials: How many.
        space: Dimension by field of the trainer, e.g. ``{"max_depth": Int(4, 10)}``; ``"params.gamma"`` and
            ``"module.dropout"`` reach inside.
        parallel: Trials at the same time, at most as many as the workers have threads; by default one a worker. With
            one, the same seed gives the same trials; with several, what is proposed depends on which have ended.
        sampler: How settings are proposed: ``"tpe"``, ``"random"``, ``"gp"`` or ``"cmaes"``.
        pruner: How trials that do badly end early: ``"asha"``, ``"hyperband"``, ``"median"``, or None. They are looked
            at after a quarter of the rounds or epochs, and after each fold.
        metric: The metric that decides; by default the trainer's own validation metric.
        validation: Folds of the training part; None judges on the validation part.
        constraints: Conditions on a trial: comparisons of its settings, of ``steps`` (rounds or epochs of its model),
            ``seconds``, ``value``, and metrics on the validation part, e.g. ``"steps <= 300"``.
        start: Settings that are tried first, e.g. those of a former search.
        within: How long it may take; None until all trials are done. Run again, it goes on with those left.
        seed: Seed of the proposals.
    """

    trials: int = Field(default=30, ge=1)
    space: dict[str, Dimension] = Field(min_length=1)
    parallel: int | None = Field(default=None, ge=1)
    sampler: Literal["tpe", "random", "gp", "cmaes"] = "tpe"
    pruner: Literal["asha", "hyperband", "median"] | None = "asha"
    metric: str | None = None
    validation: CrossValidation | None = None
    constraints: tuple[str, ...] = ()
    start: tuple[dict[str, Any], ...] = ()
    within: Duration | None = None
    seed: int = 0


def _check_range(low: float, high: float, *, log: bool) -> None:
    if not low < high:
        raise ValueError(f"the lower bound {low} is not below the upper bound {high}")
    if log and low <= 0:
        raise ValueError(f"the lower bound {low} of a logarithmic scale is not above 0")
