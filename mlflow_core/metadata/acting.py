"""Who acts in a command: by a bearer token before all else, then by a claimed name, then by the system's user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from mlflow_core.config.clock import SystemClock
from mlflow_core.config.principal import Principal, check_claim, claimed_principal
from mlflow_core.config.settings import Settings
from mlflow_core.errors import MetadataError, UsageError
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.tokens import read_principal
from mlflow_core.metadata.upgrade import check_database

__all__ = ["TOKEN_VARIABLE", "acting_principal"]

TOKEN_VARIABLE: Final = "MLCORE_TOKEN"


def acting_principal(
    settings: Settings, *, option: str | None = None, environ: Mapping[str, str] | None = None
) -> Principal:
    """Say who acts, and how that was established.

    A token wins: that of ``MLCORE_TOKEN``, else that which ``[principal] token`` refers to. Without one it is the name
    behind ``--as``, that of ``[principal] name``, or the operating system's user. Only a token opens the database.

    Args:
        settings: The project's.
        option: The name behind ``--as``, or None.
        environ: The environment; the process's own if None.

    Raises:
        MetadataError: The token is unknown, revoked or expired, or the database cannot be read.
        UsageError: ``--as`` names nobody, or somebody else than the token.
    """
    check_claim(option)
    configured = settings.principal.token
    given = (os.environ if environ is None else environ).get(TOKEN_VARIABLE)
    token = given or (configured.reveal() if configured is not None else "")
    if not token:
        return claimed_principal(option, settings.principal.name)
    known = _looked_up(settings, token)
    if option and option != known.name:
        raise UsageError(
            f'--as says "{option}", and the token is that of "{known.name}"', hint="Leave one of them out."
        )
    return known


def _looked_up(settings: Settings, token: str) -> Principal:
    database = Database(settings.metadata_url())
    try:
        if check_database(database).state == "empty":
            raise MetadataError(
                "there are no tokens yet, so none is in force",
                place=database.shown,
                hint="Make the first one: mlcore tokens create NAME",
            )
        # By the time that it is: a clock of the settings' could make a token hold that has expired.
        return read_principal(database, SystemClock(), settings.project.namespace, token)
    finally:
        database.close()
