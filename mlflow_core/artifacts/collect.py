"""Taking away what nobody needs: everything that no kept or young artifact reaches.

Who needs what is said by the caller (from metadata). Young objects stay, because their run may not have
recorded them yet; so does whatever a young folder is made of, however old that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from mlflow_core.artifacts.keys import digest_at
from mlflow_core.artifacts.place import TEMPORARY, Entry, Place
from mlflow_core.artifacts.tree import TreeFile
from mlflow_core.errors import ArtifactError

_T = TypeVar("_T")


@dataclass(frozen=True)
class GcReport:
    """What a collection did, or would do.

    Args:
        deleted: Digests that were removed.
        freed_bytes: Their sizes, and those of leftovers of broken writes.
        kept: How many objects stay because something needs them.
        young: How many objects stay only because they are young.
        leftovers: How many temporary files of broken writes were removed.
        missing: Digests that should be kept but are not there.
        dry_run: Nothing was really removed.
    """

    deleted: tuple[str, ...]
    freed_bytes: int
    kept: int
    young: int
    leftovers: int
    missing: tuple[str, ...]
    dry_run: bool


def collect(
    place: Place,
    keep: frozenset[str],
    before_us: int,
    read_tree: Callable[[str], tuple[TreeFile, ...]],
    *,
    dry_run: bool,
) -> GcReport:
    """Remove the objects that are older than ``before_us`` and that nothing reaches.

    Args:
        place: Where the objects lie.
        keep: Digests that somebody needs.
        before_us: Objects stored at or after this moment stay; microseconds since the epoch, UTC.
        read_tree: Gives the files of a folder.
        dry_run: Only say what would happen.

    Raises:
        ArtifactError: The manifest of a folder that stays is damaged, so that nobody can say what it needs.
    """
    blobs = {digest_at(entry): entry for entry in place.walk("blobs")}
    trees = {digest_at(entry): entry for entry in place.walk("trees")}
    young = {d for part in (blobs, trees) for d, entry in part.items() if entry.stored_us >= before_us}
    needed = set(keep) | set(_parts(keep & trees.keys(), read_tree))
    reached = needed | young | set(_parts(young & trees.keys(), read_tree))
    # Folders first: were we stopped half-way, no folder would be left without its files.
    doomed = [entry for part in (trees, blobs) for digest, entry in part.items() if digest not in reached]
    leftovers = [entry for entry in place.walk(TEMPORARY) if entry.stored_us < before_us]
    if not dry_run:
        doomed = [entry for entry in doomed if _removed(place, entry)]
        for entry in leftovers:
            _delete(place, entry)
    have = blobs.keys() | trees.keys()
    return GcReport(
        deleted=tuple(dict.fromkeys(digest_at(entry) for entry in doomed)),
        freed_bytes=sum(entry.size for entry in (*doomed, *leftovers)),
        kept=len(needed & have),
        young=len((reached - needed) & have),
        leftovers=len(leftovers),
        missing=tuple(sorted(keep - have)),
        dry_run=dry_run,
    )


def remove(
    place: Place,
    doomed: frozenset[str],
    keep: frozenset[str],
    read_tree: Callable[[str], tuple[TreeFile, ...]],
) -> tuple[str, ...]:
    """Remove files and folders, and those files of the folders that no folder that stays has.

    Args:
        place: Where the objects lie.
        doomed: Digests of what is there and is to go; a file that a folder that stays has is left.
        keep: Digests that stay anyway.
        read_tree: Gives the files of a folder.

    Returns:
        Those of the doomed that are gone.

    Raises:
        ArtifactError: A folder is damaged, so that nobody can say what it needs; nothing was removed then. Or an
            object cannot be removed.
    """
    blobs = {digest_at(entry): entry for entry in place.walk("blobs")}
    trees = {digest_at(entry): entry for entry in place.walk("trees")}
    going = doomed & trees.keys()
    stays = keep | set(_parts(trees.keys() - going, read_tree))
    files = ((doomed & blobs.keys()) | set(_parts(going, read_tree))) - stays
    # The files first: what is to be gone must be gone before it can no longer be found.
    for entry in [blobs[digest] for digest in sorted(files & blobs.keys())]:
        _delete(place, entry)
    for digest in sorted(going):
        _delete(place, trees[digest])
    return tuple(sorted(going | (doomed & files)))


def _parts(
    trees: set[str] | frozenset[str], read_tree: Callable[[str], tuple[TreeFile, ...]]
) -> Iterator[str]:
    for tree in sorted(trees):
        yield from (file.digest for file in read_tree(tree))


def _removed(place: Place, entry: Entry) -> bool:
    """Remove an object, unless somebody has put it again since it was looked at."""
    return _guarded(place, entry, lambda: place.delete_unchanged(entry))


def _delete(place: Place, entry: Entry) -> None:
    _guarded(place, entry, lambda: place.delete(entry.key))


def _guarded(place: Place, entry: Entry, act: Callable[[], _T]) -> _T:
    try:
        return act()
    except OSError as error:
        raise ArtifactError(
            f"cannot be removed: {error.strerror or error}", place=place.url(entry.key)
        ) from error
