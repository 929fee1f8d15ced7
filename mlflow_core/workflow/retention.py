"""Taking away what nobody needs any more: artifacts, training sets, checkpoints, layouts, logs; records never go.

What is needed is said by the records of the whole database, for its projects may share one artifact store. It is safe
while runs write: what they store is young, and what they store again is young again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.artifacts.collect import GcReport
from mlflow_core.config.clock import Clock, SystemClock
from mlflow_core.config.principal import Principal
from mlflow_core.config.retention import RetentionSettings
from mlflow_core.engine.layouts.cache import Cache, CacheEntry
from mlflow_core.errors import ArtifactError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.retention import Needed, OldDataset, read_needed
from mlflow_core.workflow.kept_trainings import KeptTrainings, OldTraining
from mlflow_core.workflow.sharing import other_users

__all__ = ["OldFile", "Removal", "Stored", "remove_old"]


@dataclass(frozen=True)
class Stored:
    """Where things lie that may grow old.

    Attributes:
        metadata: The project's records, for the audit log.
        url: The address of the database, all of whose projects are looked at, with its secrets.
        principal: Who removes.
        artifacts: The artifact store, of all projects of the database.
        cache: The layouts of sources.
        logs: Folders of runs' logs and of reports.
    """

    metadata: MetadataStore
    url: str
    principal: Principal
    artifacts: ArtifactStore
    cache: Cache
    logs: tuple[Path, ...]


@dataclass(frozen=True)
class OldFile:
    """A log or report that is too old."""

    path: Path
    bytes: int


@dataclass(frozen=True)
class Removal:
    """What was removed, or would be.

    Attributes:
        artifacts: From the artifact store, training sets included.
        datasets: Training sets whose rows go.
        versions: How many model versions are too old for their models to stay.
        layouts: Entries of the cache.
        logs: Logs and reports.
        trainings: Trainings that were interrupted and never went on, whose checkpoints go.
        done: Whether it was really removed.
    """

    artifacts: GcReport
    datasets: tuple[OldDataset, ...]
    versions: int
    layouts: tuple[CacheEntry, ...]
    logs: tuple[OldFile, ...]
    trainings: tuple[OldTraining, ...]
    done: bool

    @property
    def bytes(self) -> int:
        """How much space that is."""
        layouts, logs = sum(one.bytes for one in self.layouts), sum(one.bytes for one in self.logs)
        return self.artifacts.freed_bytes + layouts + logs + sum(one.bytes for one in self.trainings)


def remove_old(stored: Stored, rules: RetentionSettings, clock: Clock, *, really: bool) -> Removal:
    """Remove what is older than the rules say and what no record needs; or only say what that is.

    Args:
        stored: Where things lie.
        rules: How long they are kept.
        clock: The project's clock, by which records are dated; files are dated by the system's.
        really: Whether to remove it. What was is written to the audit log.

    Raises:
        MetadataError: The database cannot be read or written; nothing was removed where it cannot be read.
        ArtifactError: A folder that stays is damaged, something cannot be removed, the database knows nothing of
            what is in the store, or others use the store, too.
    """
    _refuse_shared(stored)
    needed = _but_stored_lately(_needed(stored.url, rules, clock), stored.artifacts, rules)
    young = rules.length_us("young")
    if really:
        _refuse_foreign(stored.artifacts, needed, young)
        # The records first: rows that no record promises are taken away next time, if this time is cut off here.
        for one in needed.datasets:
            _forget(stored, one, rules, clock)
    if young is None:
        artifacts = GcReport((), 0, len(needed.digests), 0, 0, (), dry_run=not really)
    else:
        artifacts = stored.artifacts.gc(needed.digests, young, SystemClock(), dry_run=not really)
    layouts = tuple(_layouts(stored.cache, rules, really=really))
    logs = tuple(_logs(stored, rules, needed, really=really))
    # A store that is another database's was refused, so a run that is not known here does not go on anywhere.
    kept = KeptTrainings(stored.artifacts, lambda run: run in needed.running)
    trainings = kept.remove_old(really=really)
    removal = Removal(artifacts, needed.datasets, needed.versions, layouts, logs, trainings, really)
    if really:
        stored.metadata.record_audit("gc", "store", _facts(removal))
    return removal


def _needed(url: str, rules: RetentionSettings, clock: Clock) -> Needed:
    now = clock.now_us()
    runs, datasets = rules.length_us("artifacts"), rules.length_us("datasets")
    return read_needed(
        url,
        runs_since_us=None if runs is None else now - runs,
        datasets_since_us=None if datasets is None else now - datasets,
        versions=rules.newest,
    )


def _but_stored_lately(needed: Needed, artifacts: ArtifactStore, rules: RetentionSettings) -> Needed:
    """Keep training sets that were built or found again lately: their records are as old as when they first were."""
    length = rules.length_us("datasets")
    if length is None:
        return needed
    since = SystemClock().now_us() - length
    stay = {one.digest for one in needed.datasets if (artifacts.stored_us(one.digest) or 0) >= since}
    go = tuple(one for one in needed.datasets if one.digest not in stay)
    return replace(needed, digests=needed.digests | stay, datasets=go)


def _refuse_foreign(artifacts: ArtifactStore, needed: Needed, young_us: int | None) -> None:
    """Refuse to empty a store of which the database knows nothing: it is another database's."""
    if young_us is None:
        return
    found = artifacts.gc(needed.digests, young_us, SystemClock(), dry_run=True)
    if found.deleted and not found.kept:
        raise ArtifactError(
            f"holds {len(found.deleted)} artifacts, none of which the metadata database needs",
            place=artifacts.location,
            hint="Make sure that metadata.url and artifacts.location belong together.",
        )


def _refuse_shared(stored: Stored) -> None:
    """Refuse a store that other databases use, too: what they need this one cannot know."""
    others = other_users(stored.metadata, stored.artifacts)
    if others:
        told = "; ".join(f"{text} (its file: users/{name})" for name, text in sorted(others.items()))
        raise ArtifactError(
            f"is used by other metadata databases, too, and what they need is not known here: {told}",
            place=stored.artifacts.location,
            expected="a store of its own for each database",
            hint="Of a database that is gone for good take its file out of the store.",
        )


def _forget(stored: Stored, one: OldDataset, rules: RetentionSettings, clock: Clock) -> None:
    store = MetadataStore(stored.url, clock, stored.principal, project=one.project, namespace=one.namespace)
    with store:
        store.remove_dataset(one.id, f"it was older than {rules.datasets} and nothing needed it")


def _layouts(cache: Cache, rules: RetentionSettings, *, really: bool) -> Iterator[CacheEntry]:
    length = rules.length_us("caches")
    if length is None:
        return
    if really:
        yield from cache.trim(unused_for=length / 1e6)
        return
    for entry in cache.entries():
        if not entry.in_use and time.time() - entry.used >= length / 1e6:
            yield entry


def _logs(stored: Stored, rules: RetentionSettings, needed: Needed, *, really: bool) -> Iterator[OldFile]:
    length = rules.length_us("logs")
    if length is None:
        return
    before = time.time() - length / 1e6
    for folder in stored.logs:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                status = path.stat()
            except FileNotFoundError:  # somebody else has just removed it
                continue
            if (
                not path.is_file()
                or status.st_mtime > before
                or any(run in path.name for run in needed.running)
            ):
                continue
            if really:
                path.unlink(missing_ok=True)
            yield OldFile(path, status.st_size)


def _facts(removal: Removal) -> dict[str, object]:
    return {
        "artifacts": len(removal.artifacts.deleted),
        "datasets": [f"{one.namespace}/{one.project}: {one.name} {one.id}" for one in removal.datasets],
        "layouts": len(removal.layouts),
        "logs": len(removal.logs),
        "trainings": len(removal.trainings),
        "bytes": removal.bytes,
    }
