"""What runs leave: params, metrics and artifacts. Written in batches, each batch one transaction.

Logging the same thing again is harmless, so that a resumed run may repeat itself: a metric's step and an
artifact's name are replaced, a param may only be repeated with the value it has.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import select

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.canonical import canonical, parsed
from mlflow_core.metadata.records import LoggedArtifact, Metric, to_record
from mlflow_core.metadata.runs import Runs, some_at_once
from mlflow_core.metadata.tables import ArtifactRow, LatestMetricRow, MetricRow, ParamRow
from mlflow_core.metadata.upserts import Upsert

_METRIC_COLUMNS: Final = ("run_id", "name", "step", "value", "low", "high", "at_us")
_NAME: Final = _METRIC_COLUMNS.index("name")
_AT: Final = _METRIC_COLUMNS.index("step")
_METRICS: Final = Upsert(MetricRow, _METRIC_COLUMNS, key=("run_id", "name", "step"))
_LATEST: Final = Upsert(LatestMetricRow, _METRIC_COLUMNS, key=("run_id", "name"), unless_later="step")
_PARAMS: Final = Upsert(ParamRow, ("run_id", "name", "value"), key=("run_id", "name"), keep=True)
_ARTIFACTS: Final = Upsert(
    ArtifactRow,
    ("run_id", "step_id", "name", "uri", "digest", "size", "media_type", "created_us"),
    key=("run_id", "name"),
)


class Logged(Runs):
    """Params, metrics and artifacts of one project's runs."""

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Note settings of a run.

        Args:
            run_id: The run.
            params: Name -> anything that JSON can say.

        Raises:
            MetadataError: A param has another value already; nothing is written then.
        """
        texts = {name: canonical(value) for name, value in params.items()}
        with self._database.connecting(write=True) as connection:
            own = self._whole_id(connection, run_id)
            if _PARAMS.write(connection, [(own, *item) for item in texts.items()]) == len(texts):
                return
            # Some were there: they stay as they are, and must be what was given now.
            query = select(ParamRow.name, ParamRow.value).where(
                ParamRow.run_id == own, ParamRow.name.in_(texts)
            )
            for name, value in connection.execute(query):
                if value != texts[name]:
                    raise MetadataError(
                        f'param "{name}" is {value} already and cannot become {texts[name]}',
                        object=f"Run {own}",
                    )

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float] | Iterable[Metric], *, step: int | None = None
    ) -> None:
        """Note metrics of a run, all in one transaction.

        Args:
            run_id: The run.
            metrics: Name -> value, or ``Metric`` records with steps and intervals of their own.
            step: The step of a mapping's values; 0 if None. NaN and infinities are kept.

        Raises:
            MetadataError: A value is no number, or a step no whole one; nothing is written then.
        """
        now = self._clock.now_us()
        if isinstance(metrics, Mapping):
            metrics = [Metric(name, value, step or 0) for name, value in metrics.items()]
        with self._database.connecting(write=True) as connection:
            own = self._whole_id(connection, run_id)
            # The last one of each name and step wins: one statement may not write a row twice.
            given = (_metric_row(own, metric, now) for metric in metrics)
            rows = {(row[_NAME], row[_AT]): row for row in given}
            latest: dict[str, tuple[Any, ...]] = {}
            for (name, at), row in rows.items():
                if name not in latest or at > latest[name][_AT]:
                    latest[name] = row
            _METRICS.write(connection, list(rows.values()))
            _LATEST.write(connection, list(latest.values()))

    def log_artifact(
        self,
        run_id: str,
        name: str,
        uri: str,
        digest: str,
        size: int,
        *,
        media_type: str = "application/octet-stream",
        step_id: int | None = None,
    ) -> LoggedArtifact:
        """Note a file or folder that a run left in the artifact store; the fields are those of ``Artifact``.

        Args:
            run_id: The run.
            name: What it is called in this run, e.g. ``report.html``.
            uri: Where it is.
            digest: ``sha256:...``.
            size: Bytes.
            media_type: What it is.
            step_id: The step that made it.
        """
        with self._database.writing() as session:
            run = self._run_row(session, run_id)
            self._must_own(session, step_id=step_id)
            row = (run.id, step_id, name, uri, digest, int(size), media_type, self._clock.now_us())
            _ARTIFACTS.write(session.connection(), [row])
            query = select(ArtifactRow).where(ArtifactRow.run_id == run.id, ArtifactRow.name == name)
            return to_record(LoggedArtifact, session.scalars(query).one())

    def get_params(self, run_id: str) -> dict[str, Any]:
        """The params of a run by name."""
        with self._database.connecting(write=False) as connection:
            own = self._whole_id(connection, run_id)
            query = (
                select(ParamRow.name, ParamRow.value).where(ParamRow.run_id == own).order_by(ParamRow.name)
            )
            return {name: parsed(value) for name, value in connection.execute(query).all()}

    def get_metrics(self, run_id: str, name: str | None = None) -> list[Metric]:
        """The metrics of a run, by name and step.

        Args:
            run_id: The run.
            name: Only this one.
        """
        with self._database.connecting(write=False) as connection:
            own = self._whole_id(connection, run_id)
            query = select(*_of_metric(MetricRow)).where(MetricRow.run_id == own)
            if name is not None:
                query = query.where(MetricRow.name == name)
            rows = connection.execute(query.order_by(MetricRow.name, MetricRow.step)).all()
            return [_metric(*row) for row in rows]

    def latest_metrics(self, run_ids: Iterable[str]) -> dict[str, dict[str, Metric]]:
        """The last step of every metric of some runs, for lists and comparisons.

        Args:
            run_ids: Whole ids.

        Returns:
            Run id -> metric name -> metric.
        """
        ids = list(run_ids)
        found: dict[str, dict[str, Metric]] = {run_id: {} for run_id in ids}
        with self._database.connecting(write=False) as connection:
            query = select(LatestMetricRow.run_id, *_of_metric(LatestMetricRow))
            # In the order of the key, in which they lie there.
            query = query.order_by(LatestMetricRow.run_id, LatestMetricRow.name)
            for some in some_at_once(self._own_of(connection, ids)):
                rows = connection.execute(query.where(LatestMetricRow.run_id.in_(some)))
                for run_id, name, value, step, low, high, at_us in rows.all():
                    found[run_id][name] = Metric(
                        name, math.nan if value is None else value, step, low, high, at_us
                    )
        return found

    def list_artifacts(self, run_id: str) -> list[LoggedArtifact]:
        """What a run left in the artifact store, by name."""
        with self._database.reading() as session:
            run = self._run_row(session, run_id)
            query = select(ArtifactRow).where(ArtifactRow.run_id == run.id).order_by(ArtifactRow.name)
            return [to_record(LoggedArtifact, row) for row in session.scalars(query)]


def _metric_row(run_id: str, metric: Metric, now_us: int) -> tuple[Any, ...]:
    try:
        value = float(metric.value)
    except (TypeError, ValueError) as error:
        raise MetadataError(
            f'metric "{metric.name}" is {metric.value!r}', object=f"Run {run_id}", expected="a number"
        ) from error
    try:
        # A numpy scalar given to SQLite as it is would be kept as bytes, which are greater than all numbers.
        step = operator.index(metric.step)
        at_us = operator.index(now_us if metric.at_us is None else metric.at_us)
    except TypeError as error:
        raise MetadataError(
            f'metric "{metric.name}" has the step {metric.step!r} at {metric.at_us!r}',
            object=f"Run {run_id}",
            expected="whole numbers",
        ) from error
    low, high = (None if end is None else float(end) for end in (metric.low, metric.high))
    return run_id, metric.name, step, value, low, high, at_us


def _of_metric(table: type[MetricRow | LatestMetricRow]) -> tuple[Any, ...]:
    return table.name, table.value, table.step, table.low, table.high, table.at_us


def _metric(name: str, value: float | None, *others: Any) -> Metric:
    return Metric(name, math.nan if value is None else value, *others)
