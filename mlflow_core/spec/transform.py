"""Row-wise Python on a source's batches: the escape hatch for what an SQL expression cannot say.

A function of Arrow tables is declared with ``@transform`` and named by a source. It travels as an import path and
a digest of its code, never as code. What it may do is checked where it is applied, in ``algebra.transform``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from mlflow_core.spec.imported import Imported

__all__ = ["Transform", "transform"]

Batches: TypeAlias = Callable[[Any], Any]  # pyarrow.Table in and out


class Transform(Imported):
    """A function that makes a source's rows of what its files or tables hold; made by ``@transform``.

    Args:
        import_path: ``module:name`` of the function.
        code: Digest of the code that was applied; empty where the function is at hand.
    """

    positional: ClassVar[tuple[str, ...]] = ("import_path",)

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"transform {self.import_path}"

    def __call__(self, batch: Any) -> Any:
        """Call the function, as a test of it does.

        Raises:
            SpecError: The declaration was read from a registry and holds no function.
        """
        if self._function is None:
            raise self.wrong("has no function here", hint="Apply it with algebra.transform.")
        return self._function(batch)


def transform(function: Batches) -> Transform:
    """Declare a function of batches, to be named by a source as ``transform=``.

    The function gets a ``pyarrow.Table`` with some rows of the source, its columns renamed and typed as
    ``sources`` types them, and returns a table of the same or fewer rows in the same order. It may add, change and
    drop columns and drop rows. A row's outcome must not depend on which other rows are in the batch: how a source
    is cut is nobody's promise. It is called with no rows to learn its columns.

    Args:
        function: A function of one argument, at the top level of an importable module.

    Returns:
        The declaration; calling it calls the function.

    Raises:
        SpecError: The function cannot be imported by another process, or does not take one argument.

    Example:
        >>> @transform
        ... def without_tests(batch):
        ...     return batch.filter(batch["tail_number"].is_valid())
        >>> without_tests.import_path.rpartition(":")[2]
        'without_tests'
    """
    made = Transform(import_path=f"{function.__module__}:{function.__qualname__}")
    n = len(inspect.signature(function).parameters)
    if n != 1:
        raise made.wrong(f"takes {n} arguments", expected="one, a pyarrow.Table")
    made._function = function
    return made
