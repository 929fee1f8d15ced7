"""Who acts, and how that was established. Recorded with every change; checks nothing by itself.

A claim is a name that somebody gave (``--as``, the settings) or has (the operating system's user). A bearer token
establishes a principal, which the metadata room looks up: ``mlflow_core.metadata.acting``.
"""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mlflow_core.config.secret import Secret
from mlflow_core.config.section import Section
from mlflow_core.errors import UsageError

Established = Literal["token", "option", "config", "os"]
"""By a bearer token, the ``--as`` option, the configuration, or the operating system's user name."""


def _is_a_reference(value: object) -> object:
    """A token is never written: a plain one is refused without being shown."""
    if value is not None and not isinstance(value, Secret):
        raise ValueError("write a reference to the token, not the token: ${env:NAME} or ${file:PATH}")
    return value


class PrincipalSettings(Section):
    """Who acts in commands that say nothing else.

    Args:
        name: A claimed name; the operating system's user if None.
        token: A reference to a bearer token, which says who acts whatever the name is.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._:+-]*$")] | None = None
    token: Annotated[Secret | None, BeforeValidator(_is_a_reference)] = None


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


def claimed_principal(option: str | None, configured: str | None) -> Principal:
    """Who acts where no token says it: the ``--as`` option, the configuration, the operating system's user.

    Args:
        option: The name behind ``--as``, or None.
        configured: ``[principal] name``, or None.

    Raises:
        UsageError: The name behind ``--as`` is blank.

    Example:
        >>> claimed_principal(None, "ops").established
        'config'
    """
    check_claim(option)
    if option is not None:
        return Principal(option, "option")
    return Principal(configured, "config") if configured else os_principal()


def check_claim(option: str | None) -> None:
    """Refuse a name behind ``--as`` that is blank: a shell makes one of a variable that is not set.

    Raises:
        UsageError: It is.
    """
    if option is not None and not option.strip():
        raise UsageError(
            f'--as is given "{option}"',
            expected="a name, e.g. --as ops@example.org",
            hint="Is the variable set that it comes from? Leave --as out to act as the operating system's user.",
        )


def os_principal() -> Principal:
    """The operating system's user, for commands that were told nothing else.

    Returns:
        The login name, or ``uid:<n>`` where the system has no name for it (containers).
    """
    try:
        return Principal(getpass.getuser(), "os")
    except (KeyError, OSError):
        return Principal(f"uid:{os.getuid()}", "os")
