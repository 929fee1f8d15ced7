"""Runs: created, started, ended, found again. The one place that knows which change of a run is legal.

pending -> running -> succeeded | failed | crashed | cancelled
pending -> cancelled;  failed, crashed, cancelled -> running (resumed)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.orm import Session

from mlflow_core.config.times import format_time
from mlflow_core.errors import MetadataError, UnknownNameError, nearest
from mlflow_core.metadata.canonical import canonical, parsed, plain
from mlflow_core.metadata.prepared import Prepared, Raw, among
from mlflow_core.metadata.records import Run, RunState, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import RunRow, StepRow

_RESUMABLE: Final = (RunState.PENDING, RunState.FAILED, RunState.CRASHED, RunState.CANCELLED)
_KNOWN_AT_MOST: Final = 100_000
_FIELDS: Final = tuple(one.name for one in fields(Run))
_STATE: Final = _FIELDS.index("state")
_TEXTS: Final = tuple(_FIELDS.index(name) for name in ("code", "environment", "tags"))
RUN_COLUMNS: Final = tuple(RunRow.__table__.columns[name] for name in _FIELDS)
"""What :func:`run_of` makes a record of, where many rows are read without the mapper."""
_STEPS_RUN: Final = select(StepRow.id).where(StepRow.run_id == RunRow.id, StepRow.state == RunState.RUNNING)
_ROW: Final = tuple(column.name for column in RunRow.__table__.columns)
_NEW: Final = Prepared(lambda _kind: insert(RunRow), columns=_ROW)
_WHOSE: Final = Prepared(lambda kind: select(RunRow.id, RunRow.project_id).where(among(RunRow.id, kind)))


def _ends(*whose: Any) -> Prepared:
    """The end of a run that runs and has no open step, which is how nearly all of them end."""
    mine = (RunRow.id == bindparam("run"), RunRow.project_id == bindparam("project"))
    ended: dict[str, Any] = {
        "state": bindparam("then"),
        "error": bindparam("why"),
        "ended_us": bindparam("now"),
    }
    statement = update(RunRow).where(*mine, RunRow.state == RunState.RUNNING, ~_STEPS_RUN.exists(), *whose)
    statement = statement.values(**ended, lease_owner=None, lease_until_us=None)
    return Prepared(lambda _kind: statement.returning(*RUN_COLUMNS))


_END: Final = _ends()
_END_BY: Final = _ends(RunRow.lease_owner == bindparam("driver"))


class Runs(Scope):
    """Runs of one project."""

    @cached_property
    def _own_runs(self) -> set[str]:
        """Ids that are known to be of runs of this project."""
        return set()

    def create_run(
        self,
        pipeline: str,
        *,
        kind: str = "train",
        pending: bool = False,
        pipeline_fingerprint: str | None = None,
        dataset_id: int | None = None,
        parent_id: str | None = None,
        seed: int | None = None,
        code: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> Run:
        """Begin a run.

        Args:
            pipeline: The pipeline's name.
            kind: What it does: ``train``, ``tune``, ``materialise``, ...
            pending: Only note it; :meth:`start_run` starts it.
            pipeline_fingerprint: Of the pipeline's spec and code.
            dataset_id: The dataset it reads, if that is known already.
            parent_id: The run that started this one.
            seed: What randomness began with.
            code: Commit, hashes.
            environment: Python, packages, machine.
            tags: Anything else.

        Returns:
            The run; its id begins with the time, so ids sort as runs began.
        """
        now = self._clock.now_us()
        made = Run(
            id=run_id_at(now, secrets.token_hex(5)),
            pipeline=pipeline,
            kind=kind,
            state=RunState.PENDING if pending else RunState.RUNNING,
            pipeline_fingerprint=pipeline_fingerprint,
            dataset_id=dataset_id,
            parent_id=parent_id,
            principal=self._principal.name,
            established=self._principal.established,
            seed=None if seed is None else int(seed),  # a numpy scalar would be kept as bytes
            code=plain(code or {}),
            environment=plain(environment or {}),
            tags=plain(tags or {}),
            error=None,
            lease_owner=None,
            lease_until_us=None,
            created_us=now,
            started_us=None if pending else now,
            ended_us=None,
        )
        project = self._known_project()
        if project is None:
            with self._database.writing() as session:
                project = self._project_id(session)
        row = {**vars(made), "project_id": project, "state": made.state.value}
        row |= {name: canonical(row[name]) for name in ("code", "environment", "tags")}
        with self._beside(dataset_id, parent_id) as to:
            _NEW.insert(to, [tuple(row[name] for name in _ROW)])
        self._own_runs.add(made.id)
        return made

    @contextmanager
    def _beside(self, dataset_id: int | None, parent_id: str | None) -> Iterator[Raw]:
        """A transaction in which what a run is to refer to is this project's."""
        if dataset_id is None and parent_id is None:
            with self._database.rows(write=True) as to:
                yield to
            return
        with self._database.connecting(write=True) as connection:
            self._must_own(connection, dataset_id=dataset_id)
            self._must_own(connection, run_id=parent_id)
            yield Raw.of(connection)

    def start_run(self, run_id: str) -> Run:
        """Start a pending run, or resume one that failed, crashed or was cancelled.

        Raises:
            MetadataError: It is running or has succeeded.
        """
        with self._database.writing() as session:
            row = self._run_row(session, run_id)
            if row.state not in _RESUMABLE:
                raise illegal("Run", row.id, row.state, RunState.RUNNING)
            row.state, row.ended_us, row.error = RunState.RUNNING, None, None
            row.cancel_requested_us = row.cancel_requested_by = None
            row.started_us = row.started_us if row.started_us is not None else self._clock.now_us()
            return run_of(row)

    def finish_run(
        self, run_id: str, state: RunState | str, *, error: str | None = None, driver: str | None = None
    ) -> Run:
        """End a run, and with it the steps that still run.

        Args:
            run_id: The run.
            state: ``succeeded``, ``failed`` (the user's error), ``crashed`` or ``cancelled``.
            error: What went wrong, one sentence.
            driver: Only if this one still holds its lease; by default whoever does.

        Raises:
            MetadataError: It is not running, another driver has it, or it shall have succeeded while a step still runs.
        """
        state = ending(state)
        given = {"run": run_id, "project": self._known_project(), "now": self._clock.now_us()}
        with self._database.rows(write=True) as to:
            end = _END if driver is None else _END_BY
            ended = end.rows(to, **given, then=state.value, why=error, driver=driver)
        if ended:
            return run_of(ended[0])
        with self._database.writing() as session:
            row = self._run_row(session, run_id)
            legal = row.state == RunState.RUNNING or (row.state, state) == (
                RunState.PENDING,
                RunState.CANCELLED,
            )
            if not legal:
                raise illegal("Run", row.id, row.state, state)
            if driver not in (None, row.lease_owner):
                raise MetadataError(
                    f"is driven by {row.lease_owner}, not by {driver} any more", object=f"Run {row.id}"
                )
            open_steps = list(session.scalars(_open_steps(row.id)))
            if open_steps and state == RunState.SUCCEEDED:
                raise MetadataError(
                    f'cannot have succeeded while step "{open_steps[0].name}" is running',
                    object=f"Run {row.id}",
                )
            self._close_steps(session, row.id, state, "the run ended")
            row.state, row.error, row.ended_us = state, error, self._clock.now_us()
            row.lease_owner = row.lease_until_us = None
            return run_of(row)

    def use_dataset(self, run_id: str, dataset_id: int) -> Run:
        """Note which dataset a run reads.

        Raises:
            UnknownNameError: There is no such dataset in this project.
        """
        with self._database.writing() as session:
            row = self._run_row(session, run_id)
            self._must_own(session, dataset_id=dataset_id)
            row.dataset_id = dataset_id
            return run_of(row)

    def get_run(self, run_id: str) -> Run:
        """A run by its id, by the beginning of its id where only one begins so, or ``latest``.

        Raises:
            UnknownNameError: There is none, or there are several.
        """
        with self._database.connecting(write=False) as connection:
            own = self._whole_id(connection, run_id)
            return run_of(connection.execute(select(*RUN_COLUMNS).where(RunRow.id == own)).one())

    def _own_of(self, run_ids: list[str]) -> list[str]:
        """Those of some whole ids that are of this project's runs."""
        known = self._own_runs.intersection(run_ids)
        if asked := [run_id for run_id in run_ids if run_id not in known]:
            mine = self._known_project()
            with self._database.rows(write=False) as to:
                # The project is compared here: a database without statistics would look through all of its runs.
                whose = _WHOSE.rows(to, ids=to.texts(asked))
            found = {run_id for run_id, project in whose if project == mine}
            self._remember(found)
            known |= found
        return [run_id for run_id in run_ids if run_id in known]

    def _remember(self, run_ids: Iterable[str]) -> None:
        """Note that runs are this project's, which spares asking when they are written to or read again."""
        if len(self._own_runs) > _KNOWN_AT_MOST:
            self._own_runs.clear()
        self._own_runs.update(run_ids)

    def _own_id(self, run_id: str) -> str:
        """The same as :meth:`_whole_id`, in a transaction of its own where one is needed."""
        if run_id in self._own_runs:
            return run_id
        with self._database.connecting(write=False) as connection:
            return self._whole_id(connection, run_id)

    def _whole_id(self, connection: Connection, run_id: str) -> str:
        """The id of a run of this project, looked up once for each run that is written to."""
        if run_id not in self._own_runs:
            with Session(bind=connection) as session:
                run_id = self._run_row(session, run_id).id
            self._own_runs.add(run_id)
        return run_id

    def _run_row(self, session: Session, run_id: str) -> RunRow:
        row = session.get(RunRow, run_id)
        project = self._find_project(session)
        if row is not None and row.project_id == project:
            return row
        mine = select(RunRow).where(RunRow.project_id == project).order_by(RunRow.created_us.desc())
        if run_id == "latest":
            found = list(session.scalars(mine.limit(1)))
        else:
            found = list(session.scalars(mine.where(RunRow.id.startswith(run_id, autoescape=True)).limit(2)))
        if len(found) == 1 and run_id:
            return found[0]
        if len(found) > 1:
            raise UnknownNameError(f'more than one run begins with "{run_id}"', hint="Write more of its id.")
        names = session.scalars(mine.limit(50).with_only_columns(RunRow.id))
        raise UnknownNameError(f'there is no run "{run_id}"', hint=nearest(run_id, names, limit=5))

    def _close_steps(self, session: Session, run_id: str, state: RunState, why: str) -> None:
        session.execute(
            update(StepRow)
            .where(StepRow.run_id == run_id, StepRow.state == RunState.RUNNING)
            .values(state=state, ended_us=self._clock.now_us(), exit_reason=why)
        )


def run_id_at(at_us: int, tail: str) -> str:
    """The id of a run that began at a moment: ids sort as runs began.

    Args:
        at_us: Microseconds since the epoch, UTC.
        tail: Ten hexadecimal digits that tell it from others of that second.
    """
    stamp = format_time(at_us)[:19].replace("-", "").replace(":", "")
    return f"{stamp}-{tail}"


def _open_steps(run_id: str) -> Any:
    return select(StepRow).where(StepRow.run_id == run_id, StepRow.state == RunState.RUNNING)


def ending(state: RunState | str) -> RunState:
    """The state in which a run or step ends.

    Raises:
        MetadataError: It is no way to end.
    """
    names = [member.value for member in RunState if member.ended]
    if state not in names:
        raise MetadataError(f'"{state}" is no way to end', expected=", ".join(names))
    return RunState(state)


def illegal(kind: str, name: str, now: str, then: str) -> MetadataError:
    """The error of a change that is not legal."""
    return MetadataError(f"is {now} and cannot become {then}", object=f"{kind} {name}")


def run_of(row: RunRow | Sequence[Any]) -> Run:
    """The record of a run's row, of the mapper's or of ``RUN_COLUMNS``; SQLite's driver gives JSON as its text."""
    if isinstance(row, RunRow):
        return to_record(Run, row, state=RunState(row.state))
    values: list[Any] = list(row)
    values[_STATE] = RunState(values[_STATE])
    for place in _TEXTS:
        if isinstance(text := values[place], str):
            values[place] = parsed(text) if text != "{}" else {}
    run = object.__new__(Run)
    # A frozen dataclass sets each field through object, which takes twice as long for these; lists have hundreds.
    run.__dict__.update(zip(_FIELDS, values, strict=True))
    return run
