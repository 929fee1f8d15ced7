"""What runs leave: params, metrics and artifacts. Written in batches, each batch one transaction.

Logging the same thing again is harmless, so that a resumed run may repeat itself: a metric's step and an
artifact's name are replaced, a param may only be repeated with the value it has.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import bindparam, select

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.canonical import canonical, parsed
from mlflow_core.metadata.metric_writer import MetricTuple, MetricWriter
from mlflow_core.metadata.prepared import Prepared, Raw, among
from mlflow_core.metadata.records import LoggedArtifact, Metric, to_record
from mlflow_core.metadata.runs import Runs
from mlflow_core.metadata.tables import ArtifactRow, LatestMetricRow, MetricRow, ParamRow
from mlflow_core.metadata.upserts import upsert

_METRIC_COLUMNS: Final = ("run_id", "name", "step", "value", "low", "high", "at_us")
_NAME: Final = 1
_AT: Final = 2  # where these are among them
_KEY: Final = operator.itemgetter(_NAME, _AT)
_METRICS: Final = upsert(MetricRow, _METRIC_COLUMNS, key=("run_id", "name", "step"))
_LATEST: Final = upsert(LatestMetricRow, _METRIC_COLUMNS, key=("run_id", "name"), unless_later="step")
_PARAMS: Final = upsert(ParamRow, ("run_id", "name", "value"), key=("run_id", "name"), keep=True)
_ARTIFACTS: Final = upsert(
    ArtifactRow,
    ("run_id", "step_id", "name", "uri", "digest", "size", "media_type", "created_us"),
    key=("run_id", "name"),
)
_VALUES: Final = ("name", "value", "step", "low", "high", "at_us")
"""What a ``Metric`` has, in its order."""
_OF_METRIC, _OF_LATEST = ([getattr(one, name) for name in _VALUES] for one in (MetricRow, LatestMetricRow))
_TEXT: Final = re.compile(r"[^\0\ud800-\udfff]*")
_WHOLE: Final = 2**63
_RUN: Final[Any] = bindparam("run")
_PARAMS_OF: Final = Prepared(
    lambda _kind: select(ParamRow.name, ParamRow.value).where(ParamRow.run_id == _RUN).order_by(ParamRow.name)
)
_ALL: Final = select(*_OF_METRIC).where(MetricRow.run_id == _RUN).order_by(MetricRow.name, MetricRow.step)
_METRICS_OF: Final = Prepared(lambda _kind: _ALL)
_METRIC_OF: Final = Prepared(lambda _kind: _ALL.where(MetricRow.name == bindparam("called")))
_LATEST_OF: Final = Prepared(
    lambda kind: (
        select(LatestMetricRow.run_id, *_OF_LATEST)
        .where(among(LatestMetricRow.run_id, kind))
        # In the order of the key, in which they lie there.
        .order_by(LatestMetricRow.run_id, LatestMetricRow.name)
    )
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
        own = self._own_id(run_id)
        with self._database.rows(write=True) as to:
            if write_params(to, own, texts) == len(texts):
                return
            # Some were there: they stay as they are, and must be what was given now.
            for name, value in _PARAMS_OF.rows(to, run=own):
                if texts.get(name, value) != value:
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
        self._write_metrics(self._rows_of(run_id, metrics, step))

    def metric_writer(self, run_id: str, *, delay_s: float = 1.0, at_most: int = 1_000) -> MetricWriter:
        """Gather metrics that are told often, and write those of a while in one transaction.

        Args:
            run_id: The run.
            delay_s: How long a metric waits at most to be written, in seconds.
            at_most: How many metrics wait at most.

        Returns:
            What is told them; nothing is left once it was flushed.

        Example:
            >>> from mlflow_core.config import FixedClock, Principal
            >>> from mlflow_core.metadata import MetadataStore
            >>> store = MetadataStore("sqlite://", FixedClock(0), Principal("me"))
            >>> run = store.create_run("late_arrival")
            >>> with store.metric_writer(run.id) as writer:
            ...     for number, auc in enumerate([0.6, 0.7]):
            ...         writer.write({"auc": auc}, step=number)
            >>> [metric.value for metric in store.get_metrics(run.id)]
            [0.6, 0.7]
        """
        return MetricWriter(
            partial(self._rows_of, run_id), self._write_metrics, delay_s=delay_s, at_most=at_most
        )

    def _rows_of(
        self, run_id: str, metrics: Mapping[str, float] | Iterable[Metric], step: int | None
    ) -> list[MetricTuple]:
        return _metric_rows(self._own_id(run_id), metrics, self._clock.now_us(), step)

    def _write_metrics(self, rows: Sequence[MetricTuple]) -> None:
        with self._database.rows(write=True) as to:
            _write_rows(to, rows)

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
            _ARTIFACTS.insert(Raw.of(session.connection()), [row])
            query = select(ArtifactRow).where(ArtifactRow.run_id == run.id, ArtifactRow.name == name)
            return to_record(LoggedArtifact, session.scalars(query).one())

    def get_params(self, run_id: str) -> dict[str, Any]:
        """The params of a run by name."""
        own = self._own_id(run_id)
        with self._database.rows(write=False) as to:
            return {name: parsed(value) for name, value in _PARAMS_OF.rows(to, run=own)}

    def get_metrics(self, run_id: str, name: str | None = None) -> list[Metric]:
        """The metrics of a run, by name and step.

        Args:
            run_id: The run.
            name: Only this one.
        """
        own = self._own_id(run_id)
        with self._database.rows(write=False) as to:
            asked = _METRICS_OF if name is None else _METRIC_OF
            return [_metric(*row) for row in asked.rows(to, run=own, called=name)]

    def latest_metrics(self, run_ids: Iterable[str]) -> dict[str, dict[str, Metric]]:
        """The last step of every metric of some runs, for lists and comparisons.

        Args:
            run_ids: Whole ids.

        Returns:
            Run id -> metric name -> metric.
        """
        ids = list(run_ids)
        found: dict[str, dict[str, Metric]] = {run_id: {} for run_id in ids}
        own = self._own_of(ids)
        with self._database.rows(write=False) as to:
            rows = _LATEST_OF.rows(to, ids=to.texts(own))
        for run_id, name, value, step, low, high, at_us in rows:
            found[run_id][name] = Metric(name, math.nan if value is None else value, step, low, high, at_us)
        return found

    def list_artifacts(self, run_id: str) -> list[LoggedArtifact]:
        """What a run left in the artifact store, by name."""
        with self._database.reading() as session:
            run = self._run_row(session, run_id)
            query = select(ArtifactRow).where(ArtifactRow.run_id == run.id).order_by(ArtifactRow.name)
            return [to_record(LoggedArtifact, row) for row in session.scalars(query)]


def write_params(to: Raw, run_id: str, texts: Mapping[str, str]) -> int:
    """Write params as canonical JSON in a caller's transaction; those that are there stay.

    Returns:
        How many were written.
    """
    return _PARAMS.insert(to, [(run_id, *item) for item in texts.items()])


def write_metrics(to: Raw, run_id: str, metrics: Iterable[Metric], now_us: int) -> None:
    """Write metrics, and which of each is the last, in a caller's transaction.

    Args:
        to: A transaction that writes.
        run_id: The whole id of a run.
        metrics: The last one of each name and step wins: one statement may not write a row twice.
        now_us: The time of those that have none.

    Raises:
        MetadataError: A value is no number, or a step no whole one.
    """
    _write_rows(to, _metric_rows(run_id, metrics, now_us))


def _metric_rows(
    run_id: str, metrics: Mapping[str, float] | Iterable[Metric], now_us: int, step: int | None = None
) -> list[MetricTuple]:
    if isinstance(metrics, Mapping):
        return [_metric_row(run_id, now_us, name, value, step or 0) for name, value in metrics.items()]
    return [
        _metric_row(run_id, now_us, one.name, one.value, one.step, one.low, one.high, one.at_us)
        for one in metrics
    ]


def _write_rows(to: Raw, given: Sequence[MetricTuple]) -> None:
    rows = dict(zip(map(_KEY, given), given, strict=True))
    latest: dict[str, MetricTuple] = {}
    for row in rows.values():
        before = latest.get(row[_NAME])
        if before is None or row[_AT] > before[_AT]:
            latest[row[_NAME]] = row
    _METRICS.insert(to, list(rows.values()))
    _LATEST.insert(to, list(latest.values()))


def _metric_row(
    run_id: str,
    now_us: int,
    name: str,
    value: float,
    step: int,
    low: float | None = None,
    high: float | None = None,
    at_us: int | None = None,
) -> MetricTuple:
    # What no database takes is refused here: in a batch that is written later it would keep all others from it.
    # Nearly all are of Python's own kinds already, and asking is faster than making them so.
    if not (type(name) is str and name.isascii() and "\0" not in name) and not _is_text(name):
        raise MetadataError(f"a metric is called {name!r}", object=f"Run {run_id}", expected="a text")
    if type(value) is not float or low is not None or high is not None:
        value, low, high = _numbers(run_id, name, value, low, high)
    when = now_us if at_us is None else at_us
    if type(step) is not int or type(when) is not int:
        try:
            # A numpy scalar given to SQLite as it is would be kept as bytes, which are greater than all numbers.
            step, when = int(operator.index(step)), int(operator.index(when))
        except TypeError as error:
            raise _no_step(run_id, name, step, at_us) from error
    if not (-_WHOLE <= step < _WHOLE and -_WHOLE <= when < _WHOLE):
        raise _no_step(run_id, name, step, at_us)
    return run_id, name, step, value, low, high, when


def _is_text(name: object) -> bool:
    return isinstance(name, str) and _TEXT.fullmatch(name) is not None


def _numbers(
    run_id: str, name: str, value: float, low: float | None, high: float | None
) -> tuple[float, float | None, float | None]:
    try:
        return float(value), None if low is None else float(low), None if high is None else float(high)
    except (TypeError, ValueError, OverflowError) as error:
        shown = repr(value) if low is None and high is None else f"{value!r}, from {low!r} to {high!r}"
        raise MetadataError(
            f'metric "{name}" is {shown}', object=f"Run {run_id}", expected="a number"
        ) from error


def _no_step(run_id: str, name: str, step: object, at_us: object) -> MetadataError:
    return MetadataError(
        f'metric "{name}" has the step {step!r} at {at_us!r}',
        object=f"Run {run_id}",
        expected="whole numbers of 64 bits",
    )


def _metric(name: str, value: float | None, *others: Any) -> Metric:
    return Metric(name, math.nan if value is None else value, *others)
