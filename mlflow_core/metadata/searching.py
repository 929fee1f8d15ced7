"""Finding runs by what they were given and what they reached, and reading many of them at once.

Looks at the last step of each metric, as lists do. A metric that is not a number is neither above nor below anything:
its run is found by no bound and stands in no order.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, String, and_, bindparam, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from mlflow_core.errors import UsageError
from mlflow_core.metadata.canonical import canonical, parsed
from mlflow_core.metadata.prepared import Prepared, among, asked_ids
from mlflow_core.metadata.records import Run, RunState
from mlflow_core.metadata.runs import RUN_COLUMNS, Runs, run_of
from mlflow_core.metadata.tables import LatestMetricRow, ParamRow, RunRow

__all__ = ["Bound", "Searching"]

_COMPARE: Final = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "=": operator.eq}
_MOST: Final = 2**63  # what a database counts


@dataclass(frozen=True)
class Bound:
    """What the last step of a metric must be, e.g. ``Bound("auc", ">", 0.7)``."""

    metric: str
    compare: Literal[">", ">=", "<", "<=", "="]
    value: float


class Searching(Runs):
    """Questions about many of one project's runs."""

    def list_runs(
        self,
        *,
        pipeline: str | None = None,
        state: RunState | str | None = None,
        params: Mapping[str, Any] | None = None,
        metrics: Iterable[Bound] = (),
        order_by: str | None = None,
        ascending: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Run]:
        """Runs for which everything asked for holds, the newest first.

        Args:
            pipeline: Only this one's.
            state: Only in this state.
            params: Only with these values of these params.
            metrics: Only within these bounds.
            order_by: A metric: only runs that have it, the greatest first, the newest first of equal ones.
            ascending: The least first; counts only with ``order_by``.
            limit: At most so many.
            offset: Leave out so many of the first.

        Raises:
            UsageError: A bound compares in no way that is known or with what is no number, there is no such state, or a
                number of runs is none.
        """
        bounds, given = list(metrics), dict(params or {})
        asked = _Asked(
            pipeline=pipeline is not None,
            state=state is not None,
            params=len(given),
            bounds=tuple((bound.compare, bound.metric == order_by) for bound in bounds),
            order=None if order_by is None else ("ascending" if ascending else "descending"),
        )
        values: dict[str, Any] = {
            "project": self._known_project(),
            "pipeline": pipeline,
            "state": None if state is None else _state(state),
            "order_by": order_by,
            "limit": _count("limit", limit),
            "offset": _count("offset", offset),
        }
        for place, (name, value) in enumerate(given.items()):
            values |= {f"param_name_{place}": name, f"param_value_{place}": canonical(value)}
        for place, bound in enumerate(bounds):
            values |= {f"bound_name_{place}": bound.metric, f"bound_value_{place}": _number(bound)}
        statement = _statement(asked)
        with self._database.rows(write=False) as to:
            listed = [run_of(row) for row in statement.rows(to, **values)]
        self._remember(run.id for run in listed)
        return listed

    def params_of_runs(self, run_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The params of some runs, for lists and comparisons.

        Args:
            run_ids: Whole ids.

        Returns:
            Run id -> name -> value.
        """
        ids = list(run_ids)
        found: dict[str, dict[str, Any]] = {run_id: {} for run_id in ids}
        own = self._own_of(ids)
        with self._database.rows(write=False) as to:
            found |= {
                run_id: parsed(f"{{{told}}}")
                for run_id, told in _PARAMS_OF.rows(to, ids=to.texts(own))
                if told
            }
        return found


def _params_of(kind: str) -> Any:
    """All params of a run as the inside of one JSON object: their values are texts of JSON already."""
    if kind == "sqlite":
        # Run by run, in the order of the key, in which they lie there: sorting and grouping them takes longer.
        run_id, told = (
            asked_ids().c.value,
            func.json_quote(ParamRow.name, type_=String) + ":" + ParamRow.value,
        )
        return select(
            run_id, select(func.group_concat(told, ",")).where(ParamRow.run_id == run_id).scalar_subquery()
        )
    pair = cast(func.to_json(ParamRow.name), String) + ":" + ParamRow.value
    told = func.string_agg(pair, aggregate_order_by(literal_column("','"), ParamRow.name))
    return select(ParamRow.run_id, told).where(among(ParamRow.run_id, kind)).group_by(ParamRow.run_id)


_PARAMS_OF: Final = Prepared(_params_of)


@dataclass(frozen=True)
class _Asked:
    """What a list asks, without the values: lists that ask the same share a statement, which takes long to make."""

    pipeline: bool
    state: bool
    params: int
    bounds: tuple[tuple[str, bool], ...]
    """How each bound compares, and whether it is of the metric that makes the order."""
    order: Literal["ascending", "descending"] | None


@lru_cache(maxsize=256)
def _statement(asked: _Asked) -> Prepared:
    newest = (RunRow.created_us.desc(), RunRow.id.desc())
    query: Any = select(*RUN_COLUMNS).where(RunRow.project_id == bindparam("project"))
    by = aliased(LatestMetricRow)
    # Asked of the rows that make the order, what does not hold ends the look at a run before the run is read.
    run_id = RunRow.id if asked.order is None else by.run_id
    holds = []
    for place, (compare, of_order) in enumerate(asked.bounds):
        if of_order:  # put on the very rows that make the order: one walk along one index
            holds.append(_holds(by, compare, place))
        else:
            query = query.where(_within(run_id, compare, place))
    for place in range(asked.params):
        query = query.where(_given(run_id, place))
    if asked.pipeline:
        query = query.where(RunRow.pipeline == bindparam("pipeline"))
    if asked.state:
        query = query.where(RunRow.state == bindparam("state"))
    if asked.order is not None:
        query = query.join(by, and_(by.run_id == RunRow.id, *_known(by, "order_by"), *holds))
        query = query.order_by(by.value.asc() if asked.order == "ascending" else by.value.desc())
    query = query.order_by(*newest).limit(bindparam("limit")).offset(bindparam("offset"))
    return Prepared(lambda _kind: query)


def _within(run_id: Any, compare: str, place: int) -> Any:
    row = aliased(LatestMetricRow)
    holds = (*_known(row, f"bound_name_{place}"), _holds(row, compare, place))
    return select(row.run_id).where(row.run_id == run_id, *holds).exists()


def _known(row: type[LatestMetricRow], metric: str) -> tuple[ColumnElement[bool], ...]:
    # PostgreSQL says that what is not a number is greater than all numbers; on SQLite it is null.
    return row.name == bindparam(metric), row.value <= math.inf


def _holds(row: type[LatestMetricRow], compare: str, place: int) -> Any:
    return _COMPARE[compare](row.value, bindparam(f"bound_value_{place}"))


def _given(run_id: Any, place: int) -> Any:
    row = aliased(ParamRow)
    holds = (row.run_id == run_id, row.name == bindparam(f"param_name_{place}"))
    return select(row.run_id).where(*holds, row.value == bindparam(f"param_value_{place}")).exists()


def _number(bound: Bound) -> float:
    """The value of a bound that is one."""
    if bound.compare not in _COMPARE:
        raise UsageError(
            f'a metric is not compared by "{bound.compare}"', expected=" ".join(_COMPARE), object=bound.metric
        )
    try:
        if not math.isnan(value := float(bound.value)):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(
        f"a metric is not compared with {bound.value!r}", expected="a number", object=bound.metric
    )


def _state(given: RunState | str) -> str:
    try:
        return RunState(given).value
    except ValueError:
        names = ", ".join(state.value for state in RunState)
        raise UsageError(f'no run is ever "{given}"', expected=names) from None


def _count(name: str, given: int) -> int:
    try:
        if 0 <= (count := operator.index(given)) < _MOST:
            return count
    except TypeError:
        pass
    raise UsageError(f"{name} is {given!r}", expected="a whole number from 0")
