"""Finding runs by what they were given and what they reached, and reading many of them at once.

Looks at the last step of each metric, as lists do. A metric that is not a number is neither above nor below anything:
its run is found by no bound and stands in no order.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, String, and_, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from mlflow_core.errors import UsageError
from mlflow_core.metadata.canonical import canonical, parsed
from mlflow_core.metadata.prepared import Prepared, among
from mlflow_core.metadata.records import Run, RunState
from mlflow_core.metadata.runs import RUN_COLUMNS, Runs, run_of
from mlflow_core.metadata.tables import LatestMetricRow, ParamRow, RunRow

__all__ = ["Bound", "Searching"]

_COMPARE: Final = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "=": operator.eq}


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
            UsageError: A bound compares in no way that is known.
        """
        newest = (RunRow.created_us.desc(), RunRow.id.desc())
        query: Any = select(*RUN_COLUMNS)
        by, found = aliased(LatestMetricRow), list(metrics)
        # Asked of the rows that make the order, what does not hold ends the look at a run before the run is read.
        run_id = RunRow.id if order_by is None else by.run_id
        for bound in found:
            if bound.metric != order_by:
                query = query.where(_within(run_id, bound))
        for name, value in (params or {}).items():
            query = query.where(_given(run_id, name, value))
        if pipeline is not None:
            query = query.where(RunRow.pipeline == pipeline)
        if state is not None:
            query = query.where(RunRow.state == RunState(state))
        if order_by is None:
            query = query.order_by(*newest)
        else:
            # Bounds of this metric are put on the very rows that make the order: one walk along one index.
            holds = [_holds(by, bound) for bound in found if bound.metric == order_by]
            query = query.join(by, and_(by.run_id == RunRow.id, _known(by, order_by), *holds))
            query = query.order_by(by.value.asc() if ascending else by.value.desc(), *newest)
        with self._database.connecting(write=False) as connection:
            mine = query.where(RunRow.project_id == self._find_project(connection))
            listed = [run_of(row) for row in connection.execute(mine.limit(limit).offset(offset)).all()]
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
                run_id: parsed(f"{{{told}}}") for run_id, told in _PARAMS_OF.rows(to, ids=to.texts(own))
            }
        return found


def _params_of(kind: str) -> Any:
    """All params of a run as the inside of one JSON object: their values are texts of JSON already."""
    if kind == "sqlite":
        # In the order of the key, in which they lie there.
        pair = func.json_quote(ParamRow.name, type_=String) + ":" + ParamRow.value
        told = func.group_concat(pair, ",")
    else:
        pair = cast(func.to_json(ParamRow.name), String) + ":" + ParamRow.value
        told = func.string_agg(pair, aggregate_order_by(literal_column("','"), ParamRow.name))
    return select(ParamRow.run_id, told).where(among(ParamRow.run_id, kind)).group_by(ParamRow.run_id)


_PARAMS_OF: Final = Prepared(_params_of)


def _within(run_id: Any, bound: Bound) -> Any:
    row = aliased(LatestMetricRow)
    holds = (_known(row, bound.metric), _holds(row, bound))
    return select(row.run_id).where(row.run_id == run_id, *holds).exists()


def _known(row: type[LatestMetricRow], metric: str) -> ColumnElement[bool]:
    # PostgreSQL says that what is not a number is greater than all numbers; on SQLite it is null.
    return and_(row.name == metric, row.value <= math.inf)


def _holds(row: type[LatestMetricRow], bound: Bound) -> Any:
    if bound.compare not in _COMPARE:
        raise UsageError(
            f'a metric is not compared by "{bound.compare}"', expected=" ".join(_COMPARE), object=bound.metric
        )
    return _COMPARE[bound.compare](row.value, bound.value)


def _given(run_id: Any, name: str, value: object) -> Any:
    row = aliased(ParamRow)
    holds = (row.run_id == run_id, row.name == name, row.value == canonical(value))
    return select(row.run_id).where(*holds).exists()
