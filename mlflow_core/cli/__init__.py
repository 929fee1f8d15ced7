"""The ``mlcore`` command: the same facts as everywhere else, thin and lazy."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave the process with its exit code.

    Args:
        arguments: What was typed after ``mlcore``; the process's own arguments if None.

    Raises:
        SystemExit: Always; the code is one of ``mlflow_core.errors.ExitCode``, or 130 after Ctrl-C.
    """
    from mlflow_core.cli.boundary import run

    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
