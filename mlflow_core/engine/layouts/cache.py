"""The cache of layouts: which entries there are, who uses them, and which go when it grows beyond its limit.

A retrieval holds a lease on the entries that it uses, a file that it keeps touching; what is leased is never removed.
Leases are taken and entries removed under one lock, so that nothing goes between a look and the use. Entries
themselves are ``mlflow_core.engine.files.entries``'.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_core.engine.files.entries import FACTS, is_dead, mark
from mlflow_core.errors import EngineError, disk_is_full
from mlflow_core.telemetry import get_logger

__all__ = ["Cache", "CacheEntry", "user_cache"]

LIMIT = 20 << 30
_LEASES = "leases"
_LOCK = "lock"
_HEARTBEAT = 15.0
_SILENT_FOR = 120.0
_A_DAY = 86_400.0
_LOG = get_logger(__name__)


def user_cache() -> Path:
    """Return the folder in the user's cache home; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlflow-core" / "layouts"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry: a part of a source in sorted form, or the ends of its replaced versions.

    Attributes:
        name: Its folder's name, which is made of all that decides its content.
        bytes: What it takes.
        used: When it was last used, seconds since epoch.
        in_use: Whether a running retrieval uses it.
        facts: What was recorded with it: source, part, columns.
    """

    name: str
    bytes: int
    used: float
    in_use: bool
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of entries.

    Args:
        folder: Where; it is made when something is first written. All workers reach it.
        limit: How many bytes it may hold when nothing is in use.
        now: Seconds since epoch.
    """

    folder: Path
    limit: int = LIMIT
    now: Callable[[], float] = time.time

    def entries(self) -> tuple[CacheEntry, ...]:
        """Return the entries, the one used longest ago first; those that cannot be read count as never used."""
        leased = self._leased()
        return tuple(
            sorted((self._entry(one, leased) for one in self._folders()), key=lambda e: (e.used, e.name))
        )

    @contextmanager
    def leased(self, names: Iterable[str]) -> Iterator[None]:
        """Hold entries for the time of a ``with`` block, whether they are there yet or not; see ``trim``.

        Args:
            names: Their names.

        Raises:
            EngineError: The folder cannot be written to.
        """
        held = sorted(set(names))
        lease = self.folder / _LEASES / mark("lease")
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(lease, held, done), name="cache-lease", daemon=True)
        try:
            with self._locked():
                self._sweep()
                self._hold(lease, held)
            self._touch(held)
            beat.start()
            yield
        finally:
            done.set()
            if beat.ident is not None:
                beat.join()
            with suppress(OSError):  # then it is swept when it has fallen silent
                lease.unlink(missing_ok=True)

    def trim(self, *, to: int | None = None, unused_for: float | None = None) -> tuple[CacheEntry, ...]:
        """Remove the entries used longest ago, but none that is in use, and what killed writers left.

        Args:
            to: Until the others take at most so many bytes; the limit by default, unless ``unused_for`` is given.
            unused_for: Remove those that were not used for so many seconds.

        Returns:
            What was removed.
        """
        if not self.folder.is_dir():
            return ()
        limit = self.limit if to is None and unused_for is None else to
        removed = []
        with self._locked():
            self._sweep()
            found = self.entries()
            left = sum(entry.bytes for entry in found)
            for entry in found:
                old = unused_for is not None and self.now() - entry.used >= unused_for
                if entry.in_use or not (old or (limit is not None and left > limit)):
                    continue
                self._remove(self.folder / entry.name)
                left -= entry.bytes
                removed.append(entry)
        if removed:
            _LOG.info("removed %d entries of %s", len(removed), self.folder)
        return tuple(removed)

    def sweep(self) -> None:
        """Remove what killed writers left; a retrieval does so at its start, a cluster that was ended at its end."""
        if self.folder.is_dir():
            with self._locked():
                self._sweep()

    def remove(self, chosen: Callable[[CacheEntry], bool]) -> tuple[CacheEntry, ...]:
        """Remove entries that nobody may find any more, but none that is in use, and what killed writers left.

        Args:
            chosen: Says which.

        Returns:
            All that were chosen; those with ``in_use`` are still there.
        """
        if not self.folder.is_dir():
            return ()
        with self._locked():
            self._sweep()
            found = tuple(entry for entry in self.entries() if chosen(entry))
            for entry in found:
                if not entry.in_use:
                    self._remove(self.folder / entry.name)
        return found

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [
            one for one in self.folder.iterdir() if not one.name.startswith(".") and (one / FACTS).exists()
        ]

    def _entry(self, folder: Path, leased: set[str]) -> CacheEntry:
        try:
            facts = json.loads((folder / FACTS).read_bytes())
            return CacheEntry(
                folder.name,
                int(facts["bytes"]),
                (folder / FACTS).stat().st_mtime,
                folder.name in leased,
                facts,
            )
        except (OSError, ValueError, KeyError, TypeError):
            size = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
            return CacheEntry(folder.name, size, 0.0, folder.name in leased, {})

    def _leased(self) -> set[str]:
        held: set[str] = set()
        for lease in self._leases():
            try:
                held.update(json.loads(lease.read_bytes()))
            except (FileNotFoundError, ValueError):
                continue  # given back a moment ago, or of a writer that was killed at it
        return held

    def _leases(self) -> list[Path]:
        folder = self.folder / _LEASES
        return [lease for lease in folder.glob(".lease.*") if not self._given_up(lease, _SILENT_FOR)]

    def _given_up(self, file: Path, silent_for: float) -> bool:
        dead = is_dead(file.name)
        if dead is not None:
            return dead
        try:
            return self.now() - file.stat().st_mtime > silent_for
        except FileNotFoundError:
            return True

    def _sweep(self) -> None:
        """Remove what was given up: drafts of killed writers, leases of killed retrievals."""
        live = set(self._leases())
        for lease in (self.folder / _LEASES).glob(".lease.*"):
            if lease not in live:
                lease.unlink(missing_ok=True)
        for draft in (*self.folder.glob(".draft.*"), *self.folder.glob(".gone.*")):
            if self._given_up(draft, _A_DAY):
                shutil.rmtree(draft, ignore_errors=True)

    def _remove(self, folder: Path) -> None:
        # Renamed first: an entry is never seen with a part of its files.
        gone = folder.with_name(mark("gone"))
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _touch(self, names: Iterable[str]) -> None:
        now = self.now()
        for name in names:
            try:
                os.utime(self.folder / name / FACTS, (now, now))
            except (FileNotFoundError, PermissionError):
                continue  # not written yet, or by another user of the same cache

    def _hold(self, lease: Path, held: list[str]) -> None:
        try:
            lease.parent.mkdir(exist_ok=True)
            lease.write_text(json.dumps(held))
        except OSError as error:
            raise self._unwritable(error) from error

    def _beat(self, lease: Path, held: list[str], done: threading.Event) -> None:
        while not done.wait(_HEARTBEAT):
            try:
                if lease.exists():
                    lease.touch()
                else:  # somebody's clock went ahead, and this one seemed to be silent
                    lease.write_text(json.dumps(held))
            except OSError as error:
                _LOG.warning("the cache's lease %s cannot be kept: %s", lease, error)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / _LOCK).open("a")
        except OSError as error:
            raise self._unwritable(error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _unwritable(self, error: OSError) -> EngineError:
        full = "Make room, or empty it with: mlcore cache clean"
        return EngineError(
            f"{self.folder} cannot be written to: {error.strerror or error}",
            object="cache",
            hint=full if disk_is_full(error) else "Choose another folder: [cache] location in mlcore.toml.",
        )
