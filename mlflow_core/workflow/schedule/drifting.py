"""The condition that features have drifted: metadata first, and rows only where these say that something is new.

What the features are compared with is the training set of the pipeline's last run that succeeded. The sources and that
training set are what a finding rests on: as long as both are as they were, the last finding is taken again. A drift that
a pipeline was started for and that is still there is no other reason, unless it was away in between, or all observations
are newer. How rows are compared is ``workflow.schedule.measuring``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson

from mlflow_core.config.times import format_duration, format_time
from mlflow_core.metadata import DatasetRecord, MetadataStore, Run, RunState
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.sources import snapshot
from mlflow_core.spec import Dataset, Drifted, source_from_json
from mlflow_core.workflow.schedule.sight import Found, Sight, Training

__all__ = ["DRIFTED", "DriftedData", "Reference", "declared_drift", "reference_of"]

DRIFTED: Final = "drifted"
"""The kind of the condition in its JSON."""

_AT_ONCE: Final = 100
_MEASURED: Final = ("problem", "rows", "newest_us", "distances")
_NAMED = 4


@dataclass(frozen=True, slots=True)
class Reference:
    """What features are compared with.

    Attributes:
        run: The run that trained on it.
        dataset: The training set.
    """

    run: str
    dataset: DatasetRecord


@dataclass(frozen=True, slots=True)
class DriftedData:
    """The features that a model would see now are not as those it was trained on; see ``spec.Drifted``.

    Attributes:
        told: The condition, as ``declared_drift`` wrote it.
        base: Folder of the feature repository; relative paths start there.
        training: Whom to ask of trainings; None where it is only declared.
    """

    told: Mapping[str, Any]
    base: str
    training: Training | None

    @classmethod
    def of(cls, told: Mapping[str, Any], base: str, training: Training | None) -> Self:
        """Read it back from what ``declared_drift`` made of it."""
        return cls(told, base, training)

    def first(self) -> Sight:
        """Say nothing yet: unlike an arrival, a drift that is there when it is declared is one."""
        return Sight({}, None, "nothing yet")

    def look(self, started_with: Found | None, last: Found | None) -> Sight:
        """Compare what the last finding rests on, and where that is another, have the features measured.

        Raises:
            SourceError: A source has no data, or they cannot be listed or read.
            WorkflowError: The features cannot be measured.
        """
        if self.training is None:
            raise AssertionError("a drift is measured by who knows of trainings")
        last = last or {}
        reference = reference_of(self.training.metadata, str(self.told["of"]))
        if isinstance(reference, str):
            measured: Found = {"problem": reference}
            rests_on = None
        else:
            rests_on = self._rests_on(reference)
            same = last.get("rests_on") == rests_on
            measured = last if same else self.training.measure(self.told)
        found = {name: measured[name] for name in _MEASURED if name in measured}
        apart = self._apart(found)
        found["drifted"] = len(apart) >= self.told["at_least"]
        found["waits"] = self._waits(started_with or {}, last, found)
        # What was said before any row was read is asked again: a store that was away may be back.
        found["rests_on"] = rests_on if "rows" in found else None
        why = self._sentence(apart, found) if found["drifted"] and found["waits"] else None
        return Sight(found, why, why or self._seen(apart, found))

    def _rests_on(self, reference: Reference) -> dict[str, Any]:
        sources = [source_from_json(orjson.dumps(one)) for one in self.told["sources"]]
        return {
            "sources": {one.name: snapshot(one, self.base) for one in sources},
            "dataset": reference.dataset.content_hash,
            **{name: self.told[name] for name in ("over_us", "features", "definition")},
        }

    def _apart(self, found: Found) -> list[tuple[str, float]]:
        return [(name, far) for name, far in found.get("distances", ()) if far > self.told["by"]]

    def _waits(self, started_with: Found, last: Found, found: Found) -> bool:
        """Whether a drift is a reason: not one that a start has had, and has left."""
        known = found.get("problem") is None
        if not started_with.get("drifted") or (known and not found["drifted"]):
            return True
        then, now = started_with.get("newest_us"), found.get("newest_us")
        if then is not None and now is not None and now - then >= self.told["over_us"]:
            return True
        return False if last == started_with else bool(last.get("waits", True))

    def _seen(self, apart: list[tuple[str, float]], found: Found) -> str:
        if found.get("problem") is not None:
            return str(found["problem"])
        if found["drifted"]:
            return f"{self._sentence(apart, found)}, as at the last start"
        if apart:
            return f"{self._sentence(apart, found)}, and {self.told['at_least']} have to be"
        farthest = _named(found["distances"][:1])
        return f"nothing above {self.told['by']:g}, at most {farthest}, {self._rows(found)}"

    def _sentence(self, apart: list[tuple[str, float]], found: Found) -> str:
        return f"{_named(apart)} above {self.told['by']:g}, {self._rows(found)}"

    def _rows(self, found: Found) -> str:
        over = format_duration(int(self.told["over_us"]))
        return f"in {found['rows'][1]:,} rows of {over} until {format_time(found['newest_us'])}"


def declared_drift(when: Drifted, pipeline: str, data: Dataset) -> dict[str, Any]:
    """Write a declared drift as the JSON that stands in the metadata database.

    Args:
        when: The declaration.
        pipeline: The training pipeline that it starts.
        data: The pipeline's training set. Secrets of its sources stay the references that they are; their transforms
            are left out, for other code brings no other data.
    """
    reads = plan_retrieval(data.features).reads
    named = {one.name: one for one in (data.spine.source, *(read.view.source for read in reads))}
    plain = [one.model_copy(update={"transform": None}) for _, one in sorted(named.items())]
    return {
        "kind": DRIFTED,
        "of": pipeline,
        "by": when.by,
        "over_us": int(when.over),
        "features": sorted(when.features),
        "at_least": when.at_least,
        "sources": [orjson.loads(one.canonical_json()) for one in plain],
        "definition": [fingerprint(data.features), fingerprint(data.spine)],
    }


def reference_of(metadata: MetadataStore, pipeline: str) -> Reference | str:
    """Find the training set that a pipeline's last run was trained on.

    Args:
        metadata: The project's records.
        pipeline: The pipeline's name.

    Returns:
        It, of the newest run that trained and succeeded; or one sentence on why there is none.

    Raises:
        MetadataError: The database cannot be read.
    """
    run = next(_trained(metadata, pipeline), None)
    if run is None or run.dataset_id is None:
        return f"no run of {pipeline} has succeeded yet, so there is nothing to compare with"
    dataset = metadata.get_dataset(run.dataset_id)
    if dataset.removed_us is not None or dataset.artifact_digest is None:
        why = dataset.removed_why or "they were not kept"
        return f"the rows that run {run.id} was trained on are not there: {why}"
    return Reference(run.id, dataset)


def _trained(metadata: MetadataStore, pipeline: str) -> Iterator[Run]:
    """The runs of a pipeline that trained and succeeded, the newest first; searches for settings are others."""
    seen = 0
    while runs := metadata.list_runs(
        pipeline=pipeline, state=RunState.SUCCEEDED, limit=_AT_ONCE, offset=seen
    ):
        yield from (one for one in runs if one.kind == "train" and one.dataset_id is not None)
        seen += len(runs)


def _named(distances: list[tuple[str, float]]) -> str:
    told = ", ".join(f"{name} {far:.2f}" for name, far in distances[:_NAMED])
    more = len(distances) - _NAMED
    return f"{told} and {more} more" if more > 0 else told
