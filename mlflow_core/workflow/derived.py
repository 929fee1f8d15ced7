"""What steps made of rows that have to go: found by the inputs that their keys record, and removed.

An output goes if what it was made of goes back, directly or over other steps, to such rows. What a run is remembered by
stays, as it holds none: its model, its report, and its settings, verdicts and versions. Decides nothing about whose
rows those are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ArtifactError
from mlflow_core.metadata import MadeOutput, MetadataStore

__all__ = ["RemovedOutput", "holds_rows", "made_of", "remove_outputs"]

_REMEMBERED = frozenset({"search", "train", "report", "gate", "register"})
_REMEMBERED_BEGINS = "train_"


@dataclass(frozen=True)
class RemovedOutput:
    """An output of a step that held, or may have held, rows that had to go.

    Attributes:
        step: The step's name.
        digest: What it left.
        runs: The runs that left it, which keep their records.
    """

    step: str
    digest: str
    runs: tuple[str, ...]


def holds_rows(step: str) -> bool:
    """Whether a step's output may hold rows of what it was made of; no user's step has the name of one that does not.

    Example:
        >>> holds_rows("train"), holds_rows("busiest")
        (False, True)
    """
    return step not in _REMEMBERED and not step.startswith(_REMEMBERED_BEGINS)


def made_of(made: Iterable[MadeOutput], rows: Collection[str]) -> list[MadeOutput]:
    """Find the outputs that may hold certain rows, over as many steps as lie between.

    Args:
        made: All outputs of the project.
        rows: Digests of what held the rows first; a step may have left just that, and then counts too.

    Returns:
        Them, in the order of ``made``.
    """
    left = [one for one in made if holds_rows(one.step)]
    makers: dict[str, set[int]] = {}
    for one in left:
        makers.setdefault(one.digest, set()).add(one.step_id)
    found = {one.step_id: one for one in left if one.digest in rows}
    reached, new = set(rows), left
    while new:
        new = [one for one in left if one.step_id not in found and not one.inputs.isdisjoint(reached)]
        found |= {one.step_id: one for one in new}
        # What other rows gave too, to the byte, says nothing of these.
        reached |= {one.digest for one in new if makers[one.digest] <= found.keys()}
    return [found[key] for key in sorted(found)]


def remove_outputs(
    outputs: Sequence[MadeOutput], metadata: MetadataStore, artifacts: ArtifactStore
) -> tuple[RemovedOutput, ...]:
    """Remove outputs from the store, except for what something else needs that was made of other rows.

    Args:
        outputs: As ``made_of`` found them.
        metadata: Who needs what.
        artifacts: Where they are.

    Returns:
        Those that were there and are gone.

    Raises:
        ArtifactError: Something in the store is damaged, so that nobody can say what it needs, or cannot be removed.
    """
    runs: dict[tuple[str, str], list[str]] = {}
    for one in outputs:
        runs.setdefault((one.step, one.digest), []).append(one.run_id)
    there = {digest for _, digest in runs if artifacts.exists(digest)}
    parts = {file for digest in there for file in _files(artifacts, digest)}
    steps = [one.step_id for one in outputs]
    # A file that a step kept by itself, as the figures of an evaluation, is none of its output, but its run's.
    keep = metadata.needed_beside(there, steps) | metadata.needed_beside(parts - there, ())
    gone = set(artifacts.delete_all(there, keep=keep))
    return tuple(
        RemovedOutput(step, digest, tuple(dict.fromkeys(of)))
        for (step, digest), of in runs.items()
        if digest in gone
    )


def _files(artifacts: ArtifactStore, digest: str) -> list[str]:
    try:
        return [file.digest for file in artifacts.files_of(digest)]
    except ArtifactError:
        return []  # a file
