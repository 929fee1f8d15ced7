"""Who acts, and how that was established. Recorded with every change; checks nothing by itself."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from typing import Literal

Established = Literal["token", "option", "config", "os"]
"""By a bearer token, the ``--as`` option, the configuration, or the operating system's user name."""


@dataclass(frozen=True)
class Principal:
    """A person or service that changes something.

    Args:
        name: Who, e.g. ``ops@example.org``.
        established: How we know. Only ``token`` counts for approvals; the rest are claims.
    """

    name: str
    established: Established = "os"

    def __str__(self) -> str:
        return self.name


def os_principal() -> Principal:
    """The operating system's user, for commands that were told nothing else.

    Returns:
        The login name, or ``uid:<n>`` where the system has no name for it (containers).
    """
    try:
        return Principal(getpass.getuser(), "os")
    except (KeyError, OSError):
        return Principal(f"uid:{os.getuid()}", "os")
