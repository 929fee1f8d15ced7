"""A request that is refused: what a caller is told, and with which HTTP status. Never a traceback, never a guess."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from mlflow_core.errors import ServeError

__all__ = ["Refusal", "unknown"]


class Refusal(ServeError):
    """A request that cannot be answered as it is.

    Args:
        what: What is wrong, one sentence without a final stop.
        status: The HTTP status.
        name: The name that is wrong.
        nearest: Known names near it, the nearest first.
        expected: What would have been right.
        hint: What to do.
        retry_after_s: When to come back, for 503.
        degraded: Which part of the service is not there, where the request itself is fine.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int = 422,
        name: str | None = None,
        nearest: Iterable[str] = (),
        expected: str | None = None,
        hint: str | None = None,
        retry_after_s: int | None = None,
        degraded: str | None = None,
        **place: str | None,
    ) -> None:
        self.status = status
        self.name = name
        self.nearest = tuple(nearest)
        self.retry_after_s = retry_after_s
        self.degraded = degraded
        super().__init__(what, expected=expected, hint=hint, **place)

    def body(self) -> dict[str, Any]:
        """Return what the caller is told, as JSON: error, name, nearest, hint; degraded where that is why."""
        told = [f"Expected {self.expected}."] if self.expected else []
        told += [self.hint] if self.hint else []
        data = {
            "error": _shortened(self.what),
            "name": None if self.name is None else _shortened(self.name),
            "nearest": list(self.nearest),
            "hint": " ".join(told) or None,
        }
        return data if self.degraded is None else {**data, "degraded": self.degraded}


def unknown(
    what: str, name: str, known: Iterable[str], *, status: int, expected: str | None = None
) -> Refusal:
    """Make the refusal of a name that does not exist, with the known names nearest to it.

    Args:
        what: The sentence, with the name in it.
        name: The name.
        known: The names that exist.
        status: The HTTP status.
        expected: What would have been right, where that is more than another name.
    """
    # Comparing takes as long as the name is, and nothing is near one that nobody would give.
    near = (
        difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=0.5) if len(name) <= _LONGEST else []
    )
    hint = f'Did you mean "{near[0]}"?' if near else None
    return Refusal(what, status=status, name=name, nearest=near, expected=expected, hint=hint)


_LONGEST = 500


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
