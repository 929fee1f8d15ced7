"""One view's materialisation against its online store: what the store has, what the run writes over it, how it ends.

Our store keeps how far a view has come (``mlflow_core.online.reached``), so a run writes only what can have changed
since; it notes what it is about to do before the first row, and what it has done after the last, so that a run that
was killed is seen and completed by the next. Another store of Feast's keeps no such notes and is given all entities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import pyarrow as pa
from feast.feature_view import FeatureView as FeastView
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import RepoConfig

from mlflow_core.config.clock import SystemClock
from mlflow_core.engine.materialise import Ask, MaterialisationReport
from mlflow_core.engine.views.changes import Since
from mlflow_core.errors import StoreError
from mlflow_core.feast.packed_sink import PackedSink, patiently
from mlflow_core.feast.proto_sink import ProtoSink
from mlflow_core.feast.stored_view import schema_of_stored, stored_view
from mlflow_core.online.backend import OnlineBackend
from mlflow_core.online.erasing import bury
from mlflow_core.online.layout import codec_of, table_of
from mlflow_core.online.reached import Reached, note_reached, read_reached
from mlflow_core.plan.erasures import Erasures
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import FeatureView

__all__ = ["PackedRun", "Rewrite", "ViewPlan", "plan_of_protos", "plan_of_view"]

Rewrite: TypeAlias = Literal["since", "changes", "all"]
"""What is written: what can have changed since the start asked for, since the last finished run, or everything."""


@dataclass(frozen=True, slots=True)
class PackedRun:
    """What a run notes in our store.

    Attributes:
        backend: The store.
        view: The view as it is stored.
        schema: The types that readers expect.
        boundary: Where it goes, microseconds since epoch, UTC.
        reached: How far the store had come; None where it does not know.
        unfinished: Where a run before it was going that did not finish, or None.
        since: From where changes are looked for; None for all entities.
        fingerprint: Of the view's declaration.
        erased: The project's erasures.
    """

    backend: OnlineBackend
    view: FeatureView
    schema: pa.Schema
    boundary: int
    reached: Reached | None
    unfinished: int | None
    since: Since | None
    fingerprint: str
    erased: Erasures

    @property
    def forward(self) -> bool:
        """Whether the run goes at least as far as the store has come."""
        return self.reached is None or self.reached.boundary is None or self.reached.boundary <= self.boundary

    @property
    def again(self) -> bool:
        """Whether it writes what stands there already, and must replace it though the boundary is no later."""
        if self.unfinished is not None:
            # A run that died may have written some of it, from what the source and the view were then.
            return True
        if self.reached is None:
            return False
        return self.since is None or self.boundary == self.since.boundary or self._from_before

    @property
    def _from_before(self) -> bool:
        return (
            self.since is not None
            and self.reached is not None
            and self.reached.boundary is not None
            and self.since.boundary < self.reached.boundary
        )

    def begin(self) -> None:
        """Note what is about to be written.

        Raises:
            StoreError: The store cannot be written.
        """
        if self.erased and (self.reached is None or self.unfinished is not None):
            # A store that was emptied has lost its tombstones too, and a run that did not end may have written
            # values of who was erased meanwhile.
            self.bury(self.erased)
        if self.unfinished is None or self.unfinished <= self.boundary:
            self.backend.begin(table_of(self.view), self.boundary)
        if self.reached is not None and self.forward and (self.since is None or self._from_before):
            left = None if self.since is None else self.since.boundary
            self._note(replace(self.reached, boundary=left))

    def untouched(self) -> None:
        """Take back what ``begin`` noted: the source could not be read, so no row was written.

        Raises:
            StoreError: The store cannot be written.
        """
        if self.unfinished is None:
            self._patiently(lambda: self.backend.finish(table_of(self.view), self.boundary))

    def bury(self, erased: Erasures) -> None:
        """Put tombstones where no greater version is.

        Args:
            erased: The project's erasures.

        Raises:
            StoreError: The store cannot be read or written.
        """
        self._patiently(lambda: bury(self.backend, [table_of(self.view)], erased, again=True))

    def finish(self, parts: tuple[str, ...]) -> None:
        """Note that all of it is written.

        Args:
            parts: The source's parts that it was made of.

        Raises:
            StoreError: The store cannot be written.
        """
        if self.forward:
            self._note(Reached(self.boundary, self.fingerprint, parts))
        self._patiently(lambda: self.backend.finish(table_of(self.view), self.boundary))

    def _note(self, reached: Reached) -> None:
        table, schema_hash = table_of(self.view), codec_of(self.view, self.schema).schema_hash
        self._patiently(lambda: note_reached(self.backend, table, schema_hash, reached))

    def _patiently(self, write: Callable[[], object]) -> None:
        patiently(self.view.title, write)


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What one view's run does.

    Attributes:
        ask: What the engine is asked for.
        why_all: Why all entities are written, as far as that is known before the source is looked at, or None.
        packed: What is noted in our store; None for another.
    """

    ask: Ask
    why_all: str | None
    packed: PackedRun | None = None

    def begin(self) -> None:
        """Note what is about to be written; see ``PackedRun``."""
        if self.packed is not None:
            self.packed.begin()

    def bury(self, erased: Erasures) -> None:
        """Take away what the run wrote of those who were erased while it was under way; see ``PackedRun``."""
        if self.packed is not None:
            # It knew nothing of them, so up to its boundary nothing of theirs may stay, later events included.
            boundary = self.ask.boundary
            found = [replace(one, erased_at=max(one.erased_at, boundary)) for one in erased.entries]
            self.packed.bury(Erasures.of(found))

    def untouched(self) -> None:
        """Take back what ``begin`` noted; see ``PackedRun``."""
        if self.packed is not None:
            self.packed.untouched()

    def finish(self, report: MaterialisationReport) -> None:
        """Note that all of it is written; see ``PackedRun``."""
        if self.packed is not None:
            self.packed.finish(report.parts)

    @property
    def completes(self) -> int | None:
        """The boundary of a run that did not finish and that this one completes, or None."""
        found = None if self.packed is None else self.packed.unfinished
        return found if found is not None and found <= self.ask.boundary else None


def plan_of_view(
    backend: OnlineBackend,
    feast_view: FeastView,
    view: FeatureView,
    boundary: int,
    *,
    start: int,
    rewrite: Rewrite,
    erased: Erasures,
) -> ViewPlan:
    """Say what a run writes into our store.

    Args:
        backend: The store.
        feast_view: The view in Feast's registry.
        view: Its declaration.
        boundary: Where the run goes, microseconds since epoch, UTC.
        start: From when on all that can have changed is to be written again.
        rewrite: Whether that start counts.
        erased: The project's erasures.

    Raises:
        StoreError: The store cannot be read.
    """
    stored, schema = stored_view(feast_view), schema_of_stored(feast_view)
    table, now = table_of(stored), fingerprint(view)
    reached = read_reached(backend, table, codec_of(stored, schema).schema_hash)
    since, why = _since(reached, now, start, rewrite)
    run = PackedRun(
        backend, stored, schema, boundary, reached, backend.unfinished().get(stored.name), since, now, erased
    )
    # Runs of one boundary are ordered by when they were started, whatever clock the store answers at.
    sequence = SystemClock().now_us() if run.again else 0
    sink = PackedSink(backend, stored, boundary, schema, sequence)
    return ViewPlan(Ask(view, boundary, sink, since, erased), why, run)


def plan_of_protos(
    config: RepoConfig,
    store: OnlineStore,
    feast_view: FeastView,
    view: FeatureView,
    boundary: int,
    *,
    erased: Erasures,
) -> ViewPlan:
    """Say what a run writes into another store of Feast's: all entities.

    Args:
        config: Feast's configuration.
        store: The store.
        feast_view: The view in Feast's registry.
        view: Its declaration.
        boundary: Where the run goes, microseconds since epoch, UTC.
        erased: The project's erasures.

    Raises:
        StoreError: The view has no source that Feast knows.
    """
    if feast_view.batch_source is None:
        raise StoreError("has no batch source", object=view.title, place=view.place)
    sink = ProtoSink(config, feast_view, view, boundary, store)
    return ViewPlan(
        Ask(view, boundary, sink, None, erased), "the online store does not tell how far it has come"
    )


def _since(
    reached: Reached | None, fingerprint: str, start: int, rewrite: Rewrite
) -> tuple[Since | None, str | None]:
    """From where changes are looked for, or why all entities are written."""
    if reached is None:
        return None, "the online store knows of no earlier run"
    if reached.boundary is None:
        return None, "an earlier run that wrote all entities again did not finish"
    if reached.fingerprint != fingerprint:
        return None, "the view or its source was declared otherwise"
    if rewrite == "all":
        return None, "it was asked for"
    after = min(start, reached.boundary) if rewrite == "since" else reached.boundary
    return Since(after, reached.parts), None
