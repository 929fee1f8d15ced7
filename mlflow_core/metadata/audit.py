"""The audit log: one row a change, each with the hash of the row before it.

A row's hash covers all its fields, its number and the hash before it, as canonical JSON. ``verify`` finds a
row that was changed, is missing (also at the end) or stands at another place. Whoever can rewrite the whole
table can forge the whole chain, or cut it off with its head: keep a head's hash elsewhere, and give it to ``verify``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from mlflow_core.config.clock import Clock
from mlflow_core.config.principal import Principal
from mlflow_core.errors import MetadataError
from mlflow_core.metadata.canonical import canonical, sha256
from mlflow_core.metadata.records import AuditEntry, AuditProblem, AuditReport, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import AuditHeadRow, AuditRow

_BATCH = 1_000


class AuditLog(Scope):
    """Reading and checking the audit log, and adding to it what no other method records."""

    def record_audit(self, action: str, object: str, details: Mapping[str, Any] | None = None) -> AuditEntry:
        """Note a change that happened elsewhere.

        Args:
            action: What was done, e.g. ``online.erase``.
            object: To what, e.g. ``view:weather``.
            details: Anything that JSON can say. No secrets: the log is never pruned.
        """
        with self._database.writing() as session:
            row = append(
                session, self._clock, self._principal, self._scope_name, action, object, details or {}
            )
            return to_record(AuditEntry, row)

    def audit_entries(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        object: str | None = None,
        principal: str | None = None,
        action: str | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        newest_first: bool = False,
    ) -> list[AuditEntry]:
        """This project's rows of the log, in order.

        Args:
            after: Only rows with a greater number.
            limit: At most so many.
            object: Only of this object, e.g. ``model:late@champion``; all that begin so where it ends with ``*``.
            principal: Only by this one.
            action: Only this one, e.g. ``alias.move``; ``alias.*`` all that begin so.
            since_us: Only from this time on, microseconds since the epoch, UTC.
            until_us: Only before this time.
            newest_first: The newest first, so that ``limit`` leaves out the oldest.
        """
        query = select(AuditRow).where(AuditRow.project == self._scope_name, AuditRow.seq > after)
        for column, wanted in ((AuditRow.object, object), (AuditRow.action, action)):
            if wanted is not None:
                query = query.where(_matches(column, wanted))
        if principal is not None:
            query = query.where(AuditRow.principal == principal)
        if since_us is not None:
            query = query.where(AuditRow.at_us >= since_us)
        if until_us is not None:
            query = query.where(AuditRow.at_us < until_us)
        order = AuditRow.seq.desc() if newest_first else AuditRow.seq
        with self._database.reading() as session:
            return [to_record(AuditEntry, row) for row in session.scalars(query.order_by(order).limit(limit))]

    def audit_verify(self, *, known: str | None = None) -> AuditReport:
        """Check the whole chain, which all projects of the database share.

        Args:
            known: A head's hash that was kept elsewhere: a row of the chain must have it. This alone finds rows that
                were cut off at the end together with the head, and a chain that was written anew.

        Returns:
            How many rows were read, the head's hash, and every problem with its row.
        """
        with self._database.reading() as session:
            return verify(session, known=known)


def _matches(column: InstrumentedAttribute[str], wanted: str) -> ColumnElement[bool]:
    if wanted.endswith("*"):
        return column.startswith(wanted[:-1], autoescape=True)
    return column == wanted


def append(
    session: Session,
    clock: Clock,
    principal: Principal,
    project: str,
    action: str,
    object: str,
    details: Mapping[str, Any],
) -> AuditRow:
    """Add a row to the chain inside the caller's transaction, which makes change and row one.

    Args:
        session: A transaction that writes.
        clock: Says when.
        principal: Who.
        project: ``namespace/project``.
        action: What was done.
        object: To what.
        details: The facts.
    """
    head = session.scalars(select(AuditHeadRow)).one_or_none()
    if head is None:
        raise MetadataError("the audit log has lost its head row", hint="Run: mlcore audit verify")
    row = AuditRow(
        seq=head.seq + 1,
        at_us=clock.now_us(),
        principal=principal.name,
        established=principal.established,
        project=project,
        action=action,
        object=object,
        details=canonical(details),
        prev_hash=head.hash,
        hash="",
    )
    row.hash = row_hash(row, row.seq)
    head.seq, head.hash = row.seq, row.hash
    session.add(row)
    session.flush()
    return row


def row_hash(row: AuditRow, seq: int) -> str:
    """What a row's hash is if it stands at place ``seq``."""
    return sha256(
        canonical(
            {
                "seq": seq,
                "at_us": row.at_us,
                "principal": row.principal,
                "established": row.established,
                "project": row.project,
                "action": row.action,
                "object": row.object,
                "details": row.details,
                "prev_hash": row.prev_hash,
            }
        )
    )


def verify(session: Session, *, known: str | None = None) -> AuditReport:
    """Walk the chain from its first row to its head; see :meth:`AuditLog.audit_verify`."""
    problems: list[AuditProblem] = []
    wrong: list[AuditRow] = []
    count, seq, last, met = 0, 0, "", not known
    for row in session.scalars(select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=_BATCH)):
        count += 1
        gap = row.seq - seq - 1
        if gap:
            problems.append(
                AuditProblem(seq + 1, "missing", f"{gap} row(s) are missing before row {row.seq}")
            )
        if row_hash(row, row.seq) != row.hash:
            wrong.append(row)
        elif not gap and row.prev_hash != last:
            problems.append(
                AuditProblem(row.seq, "broken", f"row {row.seq} does not follow the row before it")
            )
        seq, last = row.seq, row.hash
        met = met or last == known
    problems += _what_happened_to(wrong)
    head = session.scalars(select(AuditHeadRow)).one_or_none()
    if head is None:
        problems.append(AuditProblem(seq, "missing", "the head row is missing"))
    elif head.seq > seq:
        problems.append(AuditProblem(seq + 1, "missing", f"{head.seq - seq} row(s) are missing at the end"))
    elif (head.seq, head.hash) != (seq, last):
        problems.append(AuditProblem(seq, "broken", "the head row does not belong to the last row"))
    if not met:
        text = f"no row has the hash {known}: rows are missing at the end, or the chain was written anew"
        problems.append(AuditProblem(seq + 1, "missing", text))
    return AuditReport(count, last, tuple(sorted(problems, key=lambda problem: problem.seq)))


def _what_happened_to(wrong: list[AuditRow]) -> list[AuditProblem]:
    """A row whose hash is right at another place was moved; else its content was changed."""
    places = [row.seq for row in wrong]
    found = []
    for row in wrong:
        # Only where few rows are wrong: else every pair would be tried.
        home = next((seq for seq in places[:100] if row_hash(row, seq) == row.hash), None)
        if home is not None:
            found.append(AuditProblem(row.seq, "reordered", f"row {row.seq} was row {home}"))
        else:
            found.append(AuditProblem(row.seq, "changed", f"row {row.seq} was changed"))
    return found
