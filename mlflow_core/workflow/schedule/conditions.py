"""Which conditions a schedule can wait for: each is looked at now and then, and says whether it is reason enough to start.

A condition is a class with two methods (``workflow.schedule.sight``), one of which says what there is now. Another kind
is another such class, its name in ``_KINDS`` and its declaration beside ``spec.Fresh``. What a look finds is JSON: the
scheduler keeps it in the metadata database, so that any scheduler knows what the last one saw. When to look, and how
often to start, is ``mlflow_core.workflow.schedule.watching``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson

from mlflow_core.config.times import format_duration, format_time
from mlflow_core.errors import MetadataError, WorkflowError, nearest
from mlflow_core.sources import open_source, snapshot
from mlflow_core.sources.spans import joined_span, reported_span
from mlflow_core.spec import Drifted, Fresh, Source, TrainingPipeline, source_from_json
from mlflow_core.workflow.schedule.drifting import DRIFTED, DriftedData, declared_drift
from mlflow_core.workflow.schedule.sight import Condition, Found, Sight, Training

__all__ = ["Condition", "FreshData", "Sight", "condition_of", "declared_condition", "reads_rows"]


@dataclass(frozen=True, slots=True)
class FreshData:
    """A source has data that were not there before; see ``spec.Fresh``.

    Attributes:
        source: The source, without its transform: other code brings no other data.
        base: Folder of the feature repository; relative paths start there.
        by_us: By how much the newest event has to be newer, in microseconds; 0 for any change.
    """

    source: Source
    base: str
    by_us: int

    @classmethod
    def of(cls, told: Mapping[str, Any], base: str, _training: Training | None = None) -> Self:
        """Read it back from what ``declared_condition`` made of it."""
        return cls(source_from_json(orjson.dumps(told["source"])), base, int(told["by_us"]))

    def first(self) -> Sight:
        """Say what is there already, which is no arrival.

        Raises:
            SourceError: As for ``look``.
        """
        return self.look(None, None)

    def look(self, started_with: Found | None, last: Found | None) -> Sight:
        """Compare the source's fingerprint, and where that is another, read where its newest event is.

        Raises:
            SourceError: The source has no data, or they cannot be listed.
            WorkflowError: By how much it is newer cannot be told without reading rows.
        """
        found = last
        if found is None or snapshot(self.source, self.base) != found["snapshot"]:
            listing = open_source(self.source, self.base)
            span = reported_span(joined_span(part.span for part in listing.found if part.rows))
            found = {"snapshot": listing.fingerprint, "newest_us": None if span is None else span[1]}
        newest = found["newest_us"]
        until = "" if newest is None else f", with events until {format_time(newest)}"
        told = f"{self.source.name} {found['snapshot'][7:15]}{until}"
        return Sight(found, None if started_with is None else self._reason(started_with, found), told)

    def _reason(self, before: Found, now: Found) -> str | None:
        if now["snapshot"] == before["snapshot"]:
            return None
        if self.by_us == 0:
            return f"{self.source.name} has changed"
        if now["newest_us"] is None:
            raise WorkflowError(
                "how new its events are cannot be told without reading rows",
                object=self.source.title,
                hint='Leave out "by": then any change of the data is reason enough.',
            )
        if before["newest_us"] is None:
            return f"{self.source.name} has events"
        newer = now["newest_us"] - before["newest_us"]
        if newer < self.by_us:
            return None
        return f"the newest event of {self.source.name} is {format_duration(newer)} newer"


_FRESH: Final = "fresh"
_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any], str, Training | None], Condition]]] = {
    _FRESH: FreshData.of,
    DRIFTED: DriftedData.of,
}


def declared_condition(when: Fresh | Drifted, pipeline: TrainingPipeline | None = None) -> dict[str, Any]:
    """Write a declared condition as the JSON that stands in the metadata database.

    Args:
        when: The declaration. Secrets stay the references that they are.
        pipeline: What it starts, where that trains a model.
    """
    if isinstance(when, Drifted):
        if pipeline is None:
            raise AssertionError("only a pipeline that trains a model has what features drift from")
        return declared_drift(when, pipeline.name, pipeline.data)
    source = when.source.model_copy(update={"transform": None})
    return {
        "kind": _FRESH,
        "of": source.name,
        "source": orjson.loads(source.canonical_json()),
        "by_us": int(when.by),
    }


def reads_rows(told: Mapping[str, Any]) -> bool:
    """Whether a look at a condition may read rows, and so take long.

    Args:
        told: As ``declared_condition`` wrote it.
    """
    return told.get("kind") == DRIFTED


def condition_of(told: Mapping[str, Any], base: str, training: Training | None = None) -> Condition:
    """Read a condition back.

    Args:
        told: As ``declared_condition`` wrote it.
        base: Folder of the feature repository.
        training: Whom to ask of trainings; a drift is not looked at without.

    Raises:
        MetadataError: It is of a kind that this version does not know.
    """
    kind = str(told.get("kind"))
    if kind not in _KINDS:
        raise MetadataError(f'there is no condition of kind "{kind}"', hint=nearest(kind, _KINDS))
    return _KINDS[kind](told, base, training)
