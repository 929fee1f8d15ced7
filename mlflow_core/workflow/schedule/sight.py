"""What every condition is, and what one look gives. Which conditions there are is ``workflow.schedule.conditions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow_core.metadata import MetadataStore

__all__ = ["Condition", "Found", "Sight", "Training"]

Found = Mapping[str, Any]
"""What a look found: JSON that only the condition itself reads."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look saw.

    Attributes:
        found: What there is; given back to later looks.
        why: Why that is reason enough to start, one sentence; None where it is not.
        told: What there is, for people.
    """

    found: Found
    why: str | None
    told: str


@dataclass(frozen=True, slots=True)
class Training:
    """What a condition may ask of trainings that were, and of the rows that one would be made of.

    Attributes:
        metadata: The project's records.
        measure: Says how far a pipeline's features are from what its model was trained on: takes the condition's JSON,
            gives that of ``workflow.schedule.measuring``. It imports the project's code and reads rows.
    """

    metadata: MetadataStore
    measure: Callable[[Mapping[str, Any]], Found]


class Condition(Protocol):
    """Something that comes about."""

    def first(self) -> Sight:
        """Say what there is when it is declared, which is no arrival.

        Raises:
            MlcoreError: It cannot be looked at.
        """
        ...

    def look(self, started_with: Found | None, last: Found | None) -> Sight:
        """Look at what there is now.

        Args:
            started_with: What was found before the last start; None where nothing was found yet, and then there is no reason.
            last: What the last look found, whether or not it was followed by a start; what is as it was then need not be
                looked at again.

        Raises:
            MlcoreError: It cannot be looked at.
        """
        ...
