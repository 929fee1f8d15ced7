"""What PostgreSQL's errors mean for an online store: one message with a hint, never with a password in it."""

from __future__ import annotations

import psycopg
from psycopg import errors

from mlflow_core.errors import StoreError, StoreTimeout

__all__ = ["Silence", "explained", "is_conflict", "is_loss"]


class Silence(psycopg.OperationalError):
    """The server is connected and says nothing; the connection has been given up."""


def is_conflict(error: psycopg.Error) -> bool:
    """Whether the server ended a transaction because of another one: doing it again is right."""
    return isinstance(error, errors.DeadlockDetected | errors.SerializationFailure)


def is_loss(error: psycopg.Error) -> bool:
    """Whether the connection ended under a statement, as by a restart of the server."""
    if isinstance(error, _TIMEOUTS) or not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def explained(error: psycopg.Error, place: str) -> StoreError:
    """Return the error to raise for one of psycopg's.

    Args:
        error: What psycopg raised.
        place: The server and database, without a password.
    """
    text = error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, _TIMEOUTS):
        return StoreTimeout(
            f"the online store did not answer in time: {text}",
            place=place,
            hint="Look for a lock or a load on the server, or allow more time (timeout_s).",
        )
    state = error.sqlstate or ""
    hint = next((hint for prefix, hint in _BY_STATE if state.startswith(prefix)), None) if state else None
    if hint is None:
        hint = next((hint for words, hint in _BY_WORDS if words in str(error)), None)
    return StoreError(f"the online store cannot be used: {text}", place=place, hint=hint)


_TIMEOUTS = (Silence, errors.QueryCanceled, errors.LockNotAvailable, errors.ConnectionTimeout)
_ACCESS = "Check user and password in the URL, and the server's pg_hba.conf."
_DATABASE = "Make the database, or name one that is there."
_RESTART = "Writing the same rows again is harmless: do so when the server is back."
_CONNECTIONS = "Let fewer processes or connections use it, or raise max_connections."
_DOWN = "Check that the server runs and that host and port are right."

_BY_STATE = (
    ("25006", "This server or user only reads, as a replica does: name the primary to write to."),
    ("42501", "Grant the user the right to make the schema, or to use its tables."),
    ("3F000", "The schema has been removed: start this process again to begin with an empty one."),
    ("42P01", "The schema has been removed: start this process again to begin with an empty one."),
    ("53100", "Free some space on the server's disk; nothing was changed."),
    ("53200", "The server is out of memory; nothing was changed."),
    ("53300", _CONNECTIONS),
    ("53", "The server is out of some resource; nothing was changed."),
    ("54000", "A key may have some 2,600 bytes in PostgreSQL; nothing was changed."),
    ("57P0", _RESTART),
    ("40", "Others write the same rows again and again; nothing was changed. Try again."),
    ("28", _ACCESS),
    ("3D000", _DATABASE),
    ("XX", "The server's data may be damaged: look into its log."),
)
_BY_WORDS = (
    ("password", _ACCESS),
    ("authentication", _ACCESS),
    ("pg_hba.conf", _ACCESS),
    ("does not exist", _DATABASE),
    ("too many clients", _CONNECTIONS),
    ("connection slots", _CONNECTIONS),
    ("starting up", _RESTART),
    ("shutting down", _RESTART),
    ("closed the connection", _RESTART),
    ("connection is lost", _RESTART),
    ("Connection refused", _DOWN),
    ("No such file", _DOWN),
    ("not known", _DOWN),
    ("resolve", _DOWN),
    ("NUL", "Names of projects and views have no NUL character."),
)
