"""Training sets: which entity rows, which features, which label, seen by which clock, split where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_serializer, field_validator, model_validator

from mlflow_core.spec.aggregate import Agg
from mlflow_core.spec.duration import Duration, Length
from mlflow_core.spec.entity import Entity
from mlflow_core.spec.model import Spec
from mlflow_core.spec.service import ClockName, FeatureService
from mlflow_core.spec.source import Source

__all__ = ["Dataset", "Label", "Spine", "TimeSplit"]


class Spine(Spec):
    """One entity row for each event of a source: who, and as of when.

    Args:
        source: The source whose events become entity rows; it has the key columns of every view asked for and
            the request fields of the on-demand features.
        at: SQL expression of the query time, e.g. ``"scheduled_departure - interval '2 hours'"``; by default
            the event time.
        where: SQL condition on the events; null or false leaves the row out.
        columns: Further columns to carry into the dataset, e.g. for slices; not features.
    """

    positional: ClassVar[tuple[str, ...]] = ("source",)
    source: Source
    at: str | None = None
    where: str | None = None
    columns: tuple[str, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self,
            source: Source,
            *,
            at: str | None = None,
            where: str | None = None,
            columns: Sequence[str] = (),
        ) -> None: ...


class Label(Spec):
    """What is to be predicted.

    Either an SQL expression over the spine's own event, or an aggregate over the time after the query:
    ``Label(aggregate=Agg("late", "count", over="6h"), source=flights, entity=carrier)`` looks at the events
    with ``t < t_e <= t + 6h``: the aggregate's window is the horizon.

    Args:
        expression: SQL expression over the spine's event, e.g. ``"arr_delay > 15"``.
        known_at: Column with the time at which the expression's value was known; by default the source's.
        aggregate: One function over one window, which is the horizon after the query time.
        source: Source of the aggregated events, by default the spine's.
        entity: Whose events count; its key columns are in the spine.
        columns: SQL expressions by name that the aggregate uses, as in a feature view.
        name: The label's column name.
    """

    positional: ClassVar[tuple[str, ...]] = ("expression",)
    expression: str | None = None
    known_at: str | None = None
    aggregate: Agg | None = None
    source: Source | None = None
    entity: Entity | None = None
    columns: dict[str, str] = {}
    name: str = "label"

    if TYPE_CHECKING:

        def __init__(
            self,
            expression: str | None = None,
            *,
            known_at: str | None = None,
            aggregate: Agg | None = None,
            source: Source | None = None,
            entity: Entity | None = None,
            columns: Mapping[str, str] = ...,
            name: str = "label",
        ) -> None: ...

    @model_validator(mode="after")
    def _one_kind(self) -> Label:
        if (self.expression is None) == (self.aggregate is None):
            raise ValueError('needs exactly one of "expression" and "aggregate"')
        if self.aggregate is None:
            extra = [field for field in ("source", "entity", "columns") if getattr(self, field)]
            if extra:
                raise ValueError(
                    f'field "{extra[0]}" goes with "aggregate"; an expression reads the spine\'s own event'
                )
        else:
            if len(self.aggregate.functions) * len(self.aggregate.over) != 1:
                raise ValueError('field "aggregate" must be one function over one window, the horizon')
            if self.aggregate.offset:
                raise ValueError(
                    'field "aggregate": an offset has no meaning; the window starts at the query time'
                )
            if self.entity is None:
                raise ValueError('field "entity" is missing; it says whose events count')
        return self

    @property
    def horizon(self) -> Duration | None:
        """How far after the query time the label looks; None for a label of the spine's own event."""
        return self.aggregate.over[0] if self.aggregate else None


class TimeSplit(Spec):
    """Cuts in query time: training before the first, validation before the second, test after it.

    Args:
        train_until: Rows before this time are for training (a naive time is UTC).
        validate_until: Rows from there to here are for validation: early stopping, calibration.
        test_until: Rows from there to here are for the final figures; None takes all that follow.
        embargo: A training row is dropped if its label became known later than this long before the cut.
    """

    train_until: datetime
    validate_until: datetime
    test_until: datetime | None = None
    embargo: Duration = Duration("0s")

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            train_until: datetime | str,
            validate_until: datetime | str,
            test_until: datetime | str | None = None,
            embargo: Length = ...,
        ) -> None: ...

    @field_validator("train_until", "validate_until", "test_until", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @model_validator(mode="after")
    def _in_order(self) -> TimeSplit:
        if not self.train_until < self.validate_until:
            raise ValueError(
                f"validate_until {self.validate_until} is not after train_until {self.train_until}"
            )
        if self.test_until is not None and not self.validate_until < self.test_until:
            raise ValueError(
                f"test_until {self.test_until} is not after validate_until {self.validate_until}"
            )
        if self.embargo < 0:
            raise ValueError(f"embargo is {self.embargo}; it cannot be negative")
        return self


class Dataset(Spec):
    """A training set: entity rows with their features as of then, their label, and the split.

    Args:
        features: The feature service.
        spine: The entity rows.
        label: What is to be predicted.
        clock: ``"event"``, ``"known"`` or ``"served"``; by default ``served`` where every view has it.
        split: The cuts in time.
    """

    features: FeatureService
    spine: Spine
    label: Label
    clock: ClockName | None = None
    split: TimeSplit

    @field_serializer("features")
    def _service_by_name(self, features: FeatureService) -> str:
        return features.name

    @model_validator(mode="after")
    def _clock_exists(self) -> Dataset:
        missing = [one.view.name for one in self.features.selections if one.view.availability is None]
        if self.clock == "served" and missing:
            raise ValueError(
                f'clock "served" needs availability, which view {", ".join(missing)} does not declare'
            )
        return self
