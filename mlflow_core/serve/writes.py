"""What the write routes answer, without HTTP around it: pushes of rows, and erasures of entities. Nothing here reads.

Both may be sent again after whatever went wrong. A row's version is the time of its own event, so that the same row
again, or an older one, changes nothing; and who is erased already stays so. An ``Idempotency-Key`` is not needed, and
does no harm. Blocking work is done in threads of its own, so that no reader waits for a writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlflow_core.config.principal import Principal
from mlflow_core.engine.events.erasing import erased_until
from mlflow_core.errors import (
    ArtifactError,
    EngineError,
    MetadataError,
    MlcoreError,
    StoreError,
    StoreTimeout,
)
from mlflow_core.metadata.tokens import Role
from mlflow_core.online.backend import OnlineTable, Row
from mlflow_core.online.codec import microseconds
from mlflow_core.online.read_only import ReadOnly
from mlflow_core.online.write import EVENT_TIME, packed_rows
from mlflow_core.plan.erasures import Erasures
from mlflow_core.serve.compact import ARROW_STREAM
from mlflow_core.serve.erasing import Kept, entities_of, erased, key_asked
from mlflow_core.serve.features import Features
from mlflow_core.serve.messages import Reply, json_reply
from mlflow_core.serve.push_targets import PushTarget, push_targets
from mlflow_core.serve.pushed_rows import Pushed, feast_push, pushed_of_arrow, pushed_of_json, table_for
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.threads import Threads
from mlflow_core.serve.tokens import Tokens
from mlflow_core.telemetry import get_logger

__all__ = ["WriteAccess", "Writes"]

_log = get_logger("serve")
_AGAIN = "Send it again: what is done already stays as it is."


@dataclass(frozen=True)
class WriteAccess:
    """Who may write, and where what is not in the online store is kept.

    Attributes:
        tokens: The callers.
        kept: Metadata, artifacts and caches.
    """

    tokens: Tokens
    kept: Kept


class Writes:
    """The write routes of one application.

    Args:
        features: The project's features.
        access: Who may write; None lets nobody.
        threads: Where blocking work is done.
    """

    def __init__(self, features: Features, access: WriteAccess | None, threads: Threads) -> None:
        self._features = features
        self._tokens = access.tokens if access is not None else Tokens()
        self._kept = None if access is None else access.kept
        self._threads = threads

    async def principal(self, authorization: bytes, needed: Role) -> Principal:
        """Return who calls; see ``Tokens.principal``.

        Args:
            authorization: The header of that name, or nothing.
            needed: The role that is asked for: ``write`` to push, ``admin`` to erase.

        Raises:
            Refusal: The caller may not write (401, 403), that cannot be told now (503), or the store is another's to write
                (501).
        """
        principal = await self._tokens.established(authorization, needed)
        if isinstance(self._features.store, ReadOnly):
            what = "the online store is one that Feast writes, and this server only reads it"
            raise Refusal(what, status=501, hint="Push and delete through Feast.")
        return principal

    def refresh(self) -> None:
        """Look for tokens that were made or revoked, blocking; see ``Tokens.refresh``."""
        self._tokens.refresh()

    def close(self) -> None:
        """Give back what tokens are read from."""
        self._tokens.close()

    async def push(self, source: str, body: bytes, content_type: bytes, principal: Principal) -> Reply:
        """Answer ``POST /v1/push/{source}``.

        Args:
            source: The push source.
            body: The request's body.
            content_type: What it is: JSON, or an Arrow stream.
            principal: Who pushes.

        Raises:
            Refusal: The request is wrong, or the store cannot be written.
        """
        kind = content_type.partition(b";")[0].strip().lower()
        if kind not in (_JSON, ARROW_STREAM, b"", _FORM):
            raise Refusal(
                f'the body is "{kind.decode(errors="replace")}"',
                status=415,
                name="content-type",
                expected=f"{_JSON.decode()} or {ARROW_STREAM.decode()}",
            )

        def work() -> dict[str, Any]:
            pushed = pushed_of_arrow(body) if kind == ARROW_STREAM else pushed_of_json(body)
            return self._pushed(source, pushed, principal, extra_columns=False)

        return await self._done(work)

    async def feast_push(self, body: bytes, principal: Principal) -> Reply:
        """Answer ``POST /push``, Feast's own; columns that no view has are left out, as Feast does; see ``push``."""

        def work() -> dict[str, Any]:
            asked = feast_push(body)
            return self._pushed(asked.source, asked.pushed, principal, extra_columns=True)

        return await self._done(work)

    async def erase(self, entity: str, body: bytes, principal: Principal) -> Reply:
        """Answer ``DELETE /v1/entities/{entity}``.

        Args:
            entity: An entity's name, or key columns with commas between them.
            body: JSON: its key columns with their values.
            principal: Who asks for it.

        Raises:
            Refusal: The request is wrong, or it could not be done to the end.
        """

        def work() -> dict[str, Any]:
            kept = self._kept_places()
            entities = entities_of(self._features.catalogue)
            key = key_asked(entities, entity, body)
            try:
                done = erased(self._features, kept, entities, key, principal)
            except (StoreError, MetadataError, ArtifactError, EngineError) as error:
                raise _unwritten(error, "the entity could not be erased everywhere") from error
            told = {"principal": str(principal), "erasure": done["erasure"]}
            _log.info("an entity was erased", extra=told)
            return done

        return await self._done(work)

    def _pushed(
        self, source: str, pushed: Pushed, principal: Principal, *, extra_columns: bool
    ) -> dict[str, Any]:
        targets = push_targets(self._features.catalogue, source)
        if not extra_columns:
            _refuse_unknown(source, targets, pushed.names)
        # All views are made ready before the first is written: what is wrong with the request writes nothing.
        tables = [table_for(target, pushed) for target in targets]
        try:
            erasures = self._kept_places().erasures()
        except MetadataError as error:
            raise _unwritten(
                error, "the list of erased entities cannot be read; nothing was written"
            ) from error
        packed = [_packed(*one, erasures) for one in zip(targets, tables, strict=True)]
        written: dict[str, int] = {}
        for place, rows in packed:
            try:
                written[place.view] = self._features.store.write(place, rows)
            except StoreError as error:
                told = ", ".join(f'"{view}"' for view in written) or "none"
                what = f'feature view "{place.view}" could not be written; written before it: {told}'
                raise _unwritten(error, what, name=place.view) from error
        done = {"rows": pushed.n_rows, "written": sum(written.values()), "views": written}
        told_of = {"principal": str(principal), "source": source, "rows": pushed.n_rows}
        _log.info("rows were pushed", extra=told_of)
        return done

    def _kept_places(self) -> Kept:
        if self._kept is None:
            raise AssertionError("who has a token was told where things are kept")
        return self._kept

    async def _done(self, work: Any) -> Reply:
        try:
            return json_reply(await self._threads.run(work))
        except TimeoutError:
            what = "no answer in time; what was asked for may still happen"
            raise Refusal(what, status=504, hint=_AGAIN, degraded="store") from None


_JSON = b"application/json"
_FORM = b"application/x-www-form-urlencoded"  # what curl calls a body unless told otherwise


def _refuse_unknown(source: str, targets: Sequence[PushTarget], names: Sequence[str]) -> None:
    known = {name for one in targets for name in one.columns} | {
        name for one in targets for name in one.renamed
    }
    for name in names:
        if name not in known:
            what = f'no feature view of push source "{source}" has a column "{name}"'
            raise unknown(what, name, known, status=422)


def _packed(target: PushTarget, table: pa.Table, erasures: Erasures) -> tuple[OnlineTable, Sequence[Row]]:
    """Pack the rows of those who were not erased since: the store may have lost, or never had, their tombstones."""
    here = erasures.within(target.view.keys)
    if here:
        times = microseconds(table.column(EVENT_TIME)).to_numpy(zero_copy_only=False)
        table = table.filter(pa.array(times > erased_until(table, here)))
    return packed_rows(target.view, table, 0, target.schema)


def _unwritten(error: MlcoreError, what: str, *, name: str | None = None) -> Refusal:
    """Say that something was not written, and which part of the service is why; the log learns the rest."""
    part = next(part for kind, part in _PARTS.items() if isinstance(error, kind))
    _log.error("what was sent could not be written", extra={"part": part, "why": str(error)})
    if isinstance(error, StoreTimeout):
        return Refusal(what, status=504, name=name, hint=_AGAIN, degraded=part)
    return Refusal(what, status=503, name=name, hint=_AGAIN, retry_after_s=1, degraded=part)


_PARTS: dict[type[MlcoreError], str] = {
    StoreError: "store",
    MetadataError: "metadata",
    ArtifactError: "artifacts",
    EngineError: "layouts",
}
