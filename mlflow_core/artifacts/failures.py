"""A place's failures told as errors of ours, with what was wanted of which artifact where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mlflow_core.errors import ArtifactError

__all__ = ["damaged", "guarded"]

_T = TypeVar("_T")


def guarded(what: str, name: str, place: str, act: Callable[[], _T]) -> _T:
    """Do something with a place.

    Args:
        what: What is said if it fails, e.g. ``cannot be read``.
        name: The artifact.
        place: Where it lies.
        act: What is done.

    Raises:
        ArtifactError: It failed.
    """
    try:
        return act()
    except ArtifactError:
        raise
    except FileNotFoundError as error:
        raise ArtifactError(f"{what}: not found", object=name, place=place) from error
    except OSError as error:
        raise ArtifactError(f"{what}: {error.strerror or error}", object=name, place=place) from error


def damaged(digest: str, place: str) -> ArtifactError:
    """The error of an artifact whose bytes have changed."""
    return ArtifactError(
        "is damaged: its bytes are not those that were stored",
        object=digest,
        place=place,
        hint="Delete it and store it again, or restore it from a backup.",
    )
