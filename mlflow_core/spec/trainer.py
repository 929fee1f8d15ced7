"""How a model is trained: the trainers' settings, and the simple models that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mlflow_core.spec.model import Spec

__all__ = ["Baseline", "LogisticRegression", "Rate", "Trainer", "XGBoost"]


class XGBoost(Spec):
    """Gradient boosted trees.

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
    params: dict[str, Any] = {}


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


Trainer = Annotated[XGBoost, Field()]
Baseline = Annotated[Rate | LogisticRegression, Field(discriminator="kind")]
