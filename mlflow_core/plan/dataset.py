"""The logical plan of a training set: which columns its entity rows need, what the label reads, where it is cut.

A plan is a value: it has read schemas, and no data. ``mlflow_core.engine.dataset.compute`` walks it. What a label, an
embargo and a split mean is written in ``docs/concepts``, "Labels and splits".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from mlflow_core.algebra.expression import columns_used, expression_types
from mlflow_core.config.times import format_time, parse_time
from mlflow_core.errors import PlanError, nearest
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasures
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead, clock_of, plan_retrieval
from mlflow_core.spec import Agg, ClockName, Dataset, FeatureView, Label, OnDemand, Source, TimeSplit

__all__ = ["PARTS", "TIME_COLUMN", "Cuts", "DatasetPlan", "LabelPlan", "plan_dataset"]

PARTS = ("train", "validate", "test")
TIME_COLUMN = "event_timestamp"
KNOWN = "mlcore_known_at"
COUNTED = "mlcore_counted"


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where the rows are cut, in microseconds since epoch, UTC.

    Attributes:
        train_until: Rows before it are for training.
        validate_until: Rows from there to here are for validation.
        test_until: Rows from there to here are for the test; None takes all that follow.
        embargo: How long before ``train_until`` a training row's label must be known.
    """

    train_until: int
    validate_until: int
    test_until: int | None
    embargo: int

    @classmethod
    def of(cls, split: TimeSplit) -> Cuts:
        """Read the cuts of a declared split."""
        return cls(
            train_until=parse_time(split.train_until),
            validate_until=parse_time(split.validate_until),
            test_until=parse_time(split.test_until) if split.test_until else None,
            embargo=int(split.embargo),
        )


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What the label reads.

    Attributes:
        name: The label's column.
        source: Whose events it reads.
        expression: SQL over the spine's own event, or None for an aggregate.
        known_at: Column with the time at which the expression's value was known, or None.
        read: For an aggregate, the window that gives its value, how many events it counts, and when the last
            event was known that could have counted. It is read under the ``event`` clock at ``t + horizon``,
            which is the window ``(t, t + horizon]``.
        horizon: How far after ``t`` the aggregate looks, in microseconds; 0 for an expression.
    """

    name: str
    source: Source
    expression: str | None = None
    known_at: str | None = None
    read: ViewRead | None = None
    horizon: int = 0

    def describe(self) -> str:
        """Return the label in one line."""
        if self.read is None:
            return f"{self.name} = {self.expression}, known at {self.known_at or 'the event'}"
        window = self.read.view.windows[0]
        return f"{self.name} = {window.function} of {window.column} of {self.source.name} in the {window.over} after"


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """What building a training set does.

    Attributes:
        dataset: The declaration.
        clock: Which events the features see.
        retrieval: How the features are read.
        columns: Columns read of the spine's source.
        carried: Columns of the spine that every row keeps: keys, request fields, slices and what was asked for.
        label: What the label reads.
        cuts: Where the rows are cut.
        warnings: What a person should know, e.g. that a clock was chosen for them.
        erased: Of which keys events make no rows, and up to when; only those that concern the carried columns.
    """

    dataset: Dataset
    clock: ClockName
    retrieval: RetrievalPlan
    columns: tuple[str, ...]
    carried: tuple[str, ...]
    label: LabelPlan
    cuts: Cuts
    warnings: tuple[str, ...] = ()
    erased: Erasures = NOTHING_ERASED

    def without(self, erasures: Erasures) -> DatasetPlan:
        """Return the plan that does not see what was erased: not as rows, not in labels, not in features.

        Args:
            erasures: All of the project's.
        """
        read = self.label.read
        return replace(
            self,
            retrieval=self.retrieval.without(erasures),
            label=self.label if read is None else replace(self.label, read=read.without(erasures)),
            erased=erasures.within(self.carried),
        )

    def describe(self) -> str:
        """Return the plan as text: rows, label, split, then one line a view."""
        return f"{self.heading()}\n{self.retrieval.describe()}"

    def heading(self) -> str:
        """Return what comes before the views: rows, label, split, and what a person should know."""
        spine, cuts = self.dataset.spine, self.cuts
        rows = f"one for each event of {spine.source.name}, as of {spine.at or spine.source.event_time}"
        embargo = f", label known {self.dataset.split.embargo} before" if cuts.embargo else ""
        test = f" until {format_time(cuts.test_until)}" if cuts.test_until is not None else ""
        return "\n".join(
            [
                f"features of {self.dataset.features.name}, clock {self.clock}",
                f"rows     {rows}" + (f", where {spine.where}" if spine.where else ""),
                f"label    {self.label.describe()}",
                f"split    train before {format_time(cuts.train_until)}{embargo}; "
                f"validate before {format_time(cuts.validate_until)}; test after it{test}",
                f"keeps    {', '.join(self.carried)}",
                *(f"warning  {warning}" for warning in self.warnings),
            ]
        )


def plan_dataset(
    dataset: Dataset,
    schema_of: Callable[[Source], pa.Schema],
    *,
    clock: ClockName | None = None,
    carry: Iterable[str] = (),
) -> DatasetPlan:
    """Plan a training set.

    Args:
        dataset: The declaration.
        schema_of: Reads a source's schema.
        clock: Which events the features see; by default the dataset's, else the service's.
        carry: Further columns that every row keeps, e.g. those of slices.

    Returns:
        The plan.

    Raises:
        PlanError: The spine lacks a key, a request field or a carried column, an expression does not fit its
            source, or two columns of the dataset would have one name. All problems are in one message.
    """
    spine, source = dataset.spine, dataset.spine.source
    schema = schema_of(source)
    chosen = clock or dataset.clock or clock_of(dataset.features)
    retrieval = plan_retrieval(dataset.features, clock=chosen, time_column=TIME_COLUMN)
    wanted = _carried(retrieval, dataset.label, (*spine.columns, *carry))
    problems = [f"{why}, but {source.title} has no such column. {nearest(column, schema.names)}"
                for column, why in wanted.items() if column not in schema.names]  # fmt: skip
    label = _label(dataset.label, source, schema_of, problems)
    problems += _expressions(dataset, schema, label)
    problems += _clashes(wanted, retrieval, label)
    if problems:
        raise PlanError(
            "; ".join(problems),
            object=f"Dataset of {dataset.features.title}",
            place=dataset.place or spine.place,
        )
    return DatasetPlan(
        dataset=dataset,
        clock=chosen,
        retrieval=retrieval,
        columns=_columns_read(dataset, schema, wanted, label),
        carried=tuple(wanted),
        label=label,
        cuts=Cuts.of(dataset.split),
        warnings=_warnings(dataset, chosen, explicit=bool(clock or dataset.clock or dataset.features.clock)),
    )


def _carried(retrieval: RetrievalPlan, label: Label, further: Iterable[str]) -> dict[str, str]:
    """Say of every column that a row keeps why it does, the first reason winning."""
    wanted: dict[str, str] = {}
    for read in retrieval.reads:
        for _, column in read.keys:
            wanted.setdefault(column, f'{read.view.title} is joined on "{column}"')
    for column in label.entity.keys if label.entity else ():
        wanted.setdefault(column, f'the label counts events by "{column}"')
    for one in retrieval.on_demand:
        for field in one.on_demand.request:
            wanted.setdefault(field, f'{one.on_demand.title} reads "{field}" from the request')
    for column in further:
        wanted.setdefault(column, f'rows are to keep "{column}"')
    return wanted


def _label(
    label: Label, spine: Source, schema_of: Callable[[Source], pa.Schema], problems: list[str]
) -> LabelPlan:
    if label.aggregate is None:
        known_at = label.known_at or spine.known_at
        names = schema_of(spine).names
        if known_at is not None and known_at not in names:
            problems.append(
                f'the label is known at "{known_at}", which is no column. {nearest(known_at, names)}'
            )
        return LabelPlan(label.name, spine, expression=label.expression, known_at=known_at)
    aggregate = label.aggregate
    if aggregate.boundary != "(]":
        problems.append(
            f'the label\'s boundary is "{aggregate.boundary}"; it looks at (t, t + horizon], which is "(]"'
        )
    source = label.source or spine
    view = label_view(label, aggregate, source)
    names = [*schema_of(source).names, *view.columns, "*"]
    for column in (aggregate.column, *view.keys):
        if column not in names:
            problems.append(
                f'the label reads "{column}", which {source.title} does not have. {nearest(column, names)}'
            )
    read = ViewRead(view, view.feature_names, "event", tuple((key, key) for key in view.keys))
    return LabelPlan(label.name, source, read=read, horizon=int(aggregate.over[0]))


def label_view(label: Label, aggregate: Agg, source: Source) -> FeatureView:
    """Make the view whose windows are the label's value, its number of events, and when the last one was known.

    Its source is without identity and versions: it is given final versions only. An event that the condition
    turns down had to be known all the same before the label was, so the time is that of all events.
    """
    known = f"greatest({source.known_at}, {source.event_time})" if source.known_at else source.event_time
    window = aggregate.over[0]
    return FeatureView(
        name="label",
        entity=label.entity,
        source=source.model_copy(
            update={"event_id": None, "created": None, "deleted": None, "known_at": None}
        ),
        columns={**label.columns, KNOWN: known},
        features=[
            aggregate.model_copy(update={"name": label.name}),
            Agg(
                column="*",
                functions="count",
                over=window,
                where=aggregate.where,
                accuracy=aggregate.accuracy,
                name=COUNTED,
            ),
            Agg(column=KNOWN, functions="max", over=window, accuracy=aggregate.accuracy, name=KNOWN),
        ],
    )


def _expressions(dataset: Dataset, schema: pa.Schema, label: LabelPlan) -> list[str]:
    spine = dataset.spine
    problems: list[str] = []
    for field, text, right, kind in (
        ("at", spine.at, pa.types.is_timestamp, "a time"),
        ("where", spine.where, pa.types.is_boolean, "true or false"),
        ("label", label.expression, None, ""),
    ):
        if text is None:
            continue
        try:
            found = expression_types(schema, {f"mlcore_{field}": text}, title=f"{field} of the dataset")
        except PlanError as error:
            problems.append(str(error))
            continue
        made = found[f"mlcore_{field}"]
        if right is not None and not right(made):
            problems.append(f'field "{field}": {text} gives {made}, not {kind}')
    return problems


def _clashes(wanted: dict[str, str], retrieval: RetrievalPlan, label: LabelPlan) -> list[str]:
    outputs = [*retrieval.columns, *(name for one in retrieval.on_demand for name in one.on_demand.outputs)]
    problems = [
        f'feature "{name}" has the name of a column that the rows keep; rename it with Agg(..., name="...") or rename='
        for name in outputs
        if name in wanted
    ]
    if label.name in {*outputs, *wanted, TIME_COLUMN}:
        problems.append(
            f'the label is called "{label.name}" like another column; give it a name with Label(..., name="...")'
        )
    if TIME_COLUMN in wanted:
        problems.append(
            f"\"{TIME_COLUMN}\" is the dataset's own time column; rename the source's with rename="
        )
    return problems


def _columns_read(
    dataset: Dataset, schema: pa.Schema, wanted: Iterable[str], label: LabelPlan
) -> tuple[str, ...]:
    source, spine = dataset.spine.source, dataset.spine
    needed = {*wanted, source.event_time}
    needed |= {
        column
        for column in (source.known_at, source.created, source.event_id, source.deleted, label.known_at)
        if column is not None
    }
    for text in (spine.at, spine.where, label.expression):
        needed |= columns_used(schema.names, text) if text else set()
    return tuple(name for name in schema.names if name in needed)


def _warnings(dataset: Dataset, clock: ClockName, *, explicit: bool) -> tuple[str, ...]:
    if explicit or clock == "served":
        return ()
    without: dict[str, FeatureView] = {
        view.name: view
        for one in dataset.features.features
        for view in (
            one.views if isinstance(one, OnDemand) else [one if isinstance(one, FeatureView) else one.view]
        )
        if view.availability is None
    }
    return (
        f'the clock is "{clock}", not "served", because {", ".join(without)} declares no availability: '
        "training may see what serving would not",
    )
