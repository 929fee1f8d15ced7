"""What runs leave: params, metrics and artifacts. Written in batches, each batch one transaction.

Logging the same thing again is harmless, so that a resumed run may repeat itself: a metric's step and an
artifact's name are replaced, a param may only be repeated with the value it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from json import loads
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.canonical import canonical
from mlflow_core.metadata.records import LoggedArtifact, Metric, to_record
from mlflow_core.metadata.runs import Runs
from mlflow_core.metadata.tables import ArtifactRow, MetricRow, ParamRow, Table


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
        with self._database.writing() as session:
            run = self._run_row(session, run_id)
            query = select(ParamRow).where(ParamRow.run_id == run.id, ParamRow.name.in_(texts))
            have = {row.name: row.value for row in session.scalars(query)}
            for name, value in have.items():
                if value != texts[name]:
                    raise MetadataError(
                        f'param "{name}" is {value} already and cannot become {texts[name]}',
                        object=f"Run {run.id}",
                    )
            new = [{"run_id": run.id, "name": n, "value": v} for n, v in texts.items() if n not in have]
            _replace(session, ParamRow, ("run_id", "name"), new)

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float] | Iterable[Metric], *, step: int | None = None
    ) -> None:
        """Note metrics of a run, all in one transaction.

        Args:
            run_id: The run.
            metrics: Name -> value, or ``Metric`` records with steps and intervals of their own.
            step: The step of a mapping's values; 0 if None. NaN and infinities are kept.

        Raises:
            MetadataError: A value is no number; nothing is written then.
        """
        now = self._clock.now_us()
        if isinstance(metrics, Mapping):
            metrics = [Metric(name, value, step or 0) for name, value in metrics.items()]
        with self._database.writing() as session:
            run = self._run_row(session, run_id)
            # The last one of each name and step wins: one statement may not write a row twice.
            rows = {(metric.name, metric.step): _metric_row(run.id, metric, now) for metric in metrics}
            _replace(session, MetricRow, ("run_id", "name", "step"), list(rows.values()))

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
            row = {
                "run_id": run.id,
                "step_id": step_id,
                "name": name,
                "uri": uri,
                "digest": digest,
                "size": size,
                "media_type": media_type,
                "created_us": self._clock.now_us(),
            }
            _replace(session, ArtifactRow, ("run_id", "name"), [row])
            query = select(ArtifactRow).where(ArtifactRow.run_id == run.id, ArtifactRow.name == name)
            return to_record(LoggedArtifact, session.scalars(query).one())

    def get_params(self, run_id: str) -> dict[str, Any]:
        """The params of a run by name."""
        with self._database.reading() as session:
            run = self._run_row(session, run_id)
            query = select(ParamRow).where(ParamRow.run_id == run.id).order_by(ParamRow.name)
            return {row.name: loads(row.value) for row in session.scalars(query)}

    def get_metrics(self, run_id: str, name: str | None = None) -> list[Metric]:
        """The metrics of a run, by name and step.

        Args:
            run_id: The run.
            name: Only this one.
        """
        with self._database.reading() as session:
            run = self._run_row(session, run_id)
            query = select(MetricRow).where(MetricRow.run_id == run.id)
            if name is not None:
                query = query.where(MetricRow.name == name)
            rows = session.scalars(query.order_by(MetricRow.name, MetricRow.step))
            return [_metric(row) for row in rows]

    def latest_metrics(self, run_ids: Iterable[str]) -> dict[str, dict[str, Metric]]:
        """The last step of every metric of some runs, for lists and comparisons.

        Args:
            run_ids: Whole ids.

        Returns:
            Run id -> metric name -> metric.
        """
        ids = list(run_ids)
        last = (
            select(MetricRow.run_id, MetricRow.name, func.max(MetricRow.step).label("step"))
            .where(MetricRow.run_id.in_(ids))
            .group_by(MetricRow.run_id, MetricRow.name)
            .subquery()
        )
        same = (
            (MetricRow.run_id == last.c.run_id)
            & (MetricRow.name == last.c.name)
            & (MetricRow.step == last.c.step)
        )
        found: dict[str, dict[str, Metric]] = {run_id: {} for run_id in ids}
        with self._database.reading() as session:
            for row in session.scalars(select(MetricRow).join(last, same).order_by(MetricRow.name)):
                found[row.run_id][row.name] = _metric(row)
        return found

    def list_artifacts(self, run_id: str) -> list[LoggedArtifact]:
        """What a run left in the artifact store, by name."""
        with self._database.reading() as session:
            run = self._run_row(session, run_id)
            query = select(ArtifactRow).where(ArtifactRow.run_id == run.id).order_by(ArtifactRow.name)
            return [to_record(LoggedArtifact, row) for row in session.scalars(query)]


def _metric_row(run_id: str, metric: Metric, now_us: int) -> dict[str, Any]:
    try:
        value = float(metric.value)
    except (TypeError, ValueError) as error:
        raise MetadataError(
            f'metric "{metric.name}" is {metric.value!r}', object=f"Run {run_id}", expected="a number"
        ) from error
    at_us = now_us if metric.at_us is None else metric.at_us
    return {
        "run_id": run_id,
        "name": metric.name,
        "step": metric.step,
        "value": value,
        "low": None if metric.low is None else float(metric.low),
        "high": None if metric.high is None else float(metric.high),
        "at_us": at_us,
    }


def _metric(row: MetricRow) -> Metric:
    return to_record(Metric, row, value=math.nan if row.value is None else row.value)


def _replace(session: Session, table: type[Table], key: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Insert rows, replacing those of the same key, in one statement executed for all."""
    if not rows:
        return
    insert: Any = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    others = {name: statement.excluded[name] for name in rows[0] if name not in key}
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=others), rows)
