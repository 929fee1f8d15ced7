"""Several things that are wrong, told at once: the user mends all of them before the next try."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_core.errors import MlcoreError, PlanError

__all__ = ["Problems", "Several"]


class Several(PlanError):
    """Several errors as one; their own class and place are in ``errors``."""

    errors: tuple[MlcoreError, ...] = ()


class Problems:
    """Errors that were met while looking at a project; a value is looked at as far as it goes.

    Example:
        >>> problems = Problems()
        >>> with problems.noted():
        ...     raise PlanError("has no key", object='Entity "carrier"')
        >>> problems.raise_all()
        Traceback (most recent call last):
        mlflow_core.errors.PlanError: Entity "carrier": has no key
    """

    def __init__(self) -> None:
        self._errors: dict[str, MlcoreError] = {}

    def __bool__(self) -> bool:
        return bool(self._errors)

    def add(self, error: MlcoreError) -> None:
        """Note an error, or each of several that were raised as one; the same message counts once."""
        for one in error.errors if isinstance(error, Several) else (error,):
            self._errors.setdefault(str(one), one)

    @contextmanager
    def noted(self, *, object: str | None = None, place: str | None = None) -> Iterator[None]:
        """Note an error of this package that the block raises, and go on after the block.

        Args:
            object: What it happened to, where the error does not say.
            place: Where that is, where the error does not say.
        """
        try:
            yield
        except MlcoreError as error:
            self.add(error if isinstance(error, Several) else _placed(error, object, place))

    def raise_all(self) -> None:
        """Raise what was noted: a single error as it is, several as one.

        Raises:
            MlcoreError: The only error.
            Several: A ``PlanError`` with one line for each.
        """
        errors = list(self._errors.values())
        if len(errors) == 1:
            raise errors[0]
        if errors:
            lines = "".join(f"\n  {error}" for error in errors)
            several = Several(f"{len(errors)} problems:{lines}")
            several.errors = tuple(errors)
            raise several


def _placed(error: MlcoreError, object: str | None, place: str | None) -> MlcoreError:
    """Say where it happened, if the error itself does not."""
    if error.place is not None or place is None:
        return error
    inner = error.object or ""
    named = inner if object is None or inner.startswith(object) else ": ".join(filter(None, (object, inner)))
    return type(error)(
        error.what, object=named or None, place=place, expected=error.expected, hint=error.hint
    )
