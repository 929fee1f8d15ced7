"""What a check noticed: a value with a severity, a sentence and the figure that it rests on. It decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["SEVERITIES", "Finding", "Severity", "worst_first"]

Severity = Literal["critical", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""From the worst: figures cannot be believed; look at it before you decide; good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check noticed.

    Args:
        check: Which check: ``predicts_alone``, ``is_the_label``, ``same_rows``, ``same_keys``, ``drift``,
            ``label_shift``.
        severity: How bad it is.
        subject: The feature or part it is about.
        sentence: What was found, and what it may mean, for people.
        value: The figure that was measured.
        limit: The figure from which on it is told.
    """

    check: str
    severity: Severity
    subject: str
    sentence: str
    value: float
    limit: float

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in the order of their severity, else as they come."""
    return tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity)))
