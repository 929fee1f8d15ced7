"""What must hold of a view's values; evaluated on datasets and at materialisation, never at declaration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mlflow_core.spec.model import Spec

__all__ = ["Check", "InRange", "NullRate"]


class NullRate(Spec):
    """The share of nulls in a column stays below a limit.

    Args:
        column: A feature of the view.
        below: Limit as a share from 0 to 1.
        severity: ``"error"`` stops the run, ``"warn"`` reports.
    """

    positional: ClassVar[tuple[str, ...]] = ("column",)
    kind: Literal["null_rate"] = "null_rate"
    column: str
    below: float = Field(gt=0.0, le=1.0)
    severity: Literal["error", "warn"] = "error"

    if TYPE_CHECKING:

        def __init__(
            self,
            column: str,
            *,
            below: float,
            severity: Literal["error", "warn"] = "error",
        ) -> None: ...


class InRange(Spec):
    """The values of a column that are not null lie between two limits, both included.

    Args:
        column: A numeric feature of the view.
        at_least: Lower limit, or None.
        at_most: Upper limit, or None.
        severity: ``"error"`` stops the run, ``"warn"`` reports.
    """

    positional: ClassVar[tuple[str, ...]] = ("column",)
    kind: Literal["in_range"] = "in_range"
    column: str
    at_least: float | None = None
    at_most: float | None = None
    severity: Literal["error", "warn"] = "error"

    if TYPE_CHECKING:

        def __init__(
            self,
            column: str,
            *,
            at_least: float | None = None,
            at_most: float | None = None,
            severity: Literal["error", "warn"] = "error",
        ) -> None: ...

    @model_validator(mode="after")
    def _some_limit(self) -> InRange:
        if self.at_least is None and self.at_most is None:
            raise ValueError('needs "at_least", "at_most" or both')
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is greater than at_most {self.at_most}")
        return self


Check = Annotated[NullRate | InRange, Field(discriminator="kind")]
