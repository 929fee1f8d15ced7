"""Bearer tokens: made once, told once, kept as digests; who has one is known and does not merely say who they are.

A token belongs to a principal and holds for all projects of a namespace. Making, changing and revoking one is in the
audit log, which never names the token. The database's own access rights are the wall: who may write to it without
this package can give themselves any token, and what that leaves is in no log.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from mlflow_core.config.clock import Clock
from mlflow_core.config.principal import Principal
from mlflow_core.config.times import format_time
from mlflow_core.errors import MetadataError, UnknownNameError, UsageError, nearest
from mlflow_core.metadata.audit import append
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.records import to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import NamespaceRow, TokenRow

__all__ = ["ROLES", "Role", "Token", "TokenDigest", "Tokens", "digest_of_token", "may"]

Role = Literal["read", "write", "admin"]
"""What a token may do where it is shown to a server: ask, push rows as well, erase entities as well."""

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""The roles; each may all that those before it may."""

_PREFIX: Final = "mlc_"
_RANDOM_BYTES: Final = 32
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:+-]*")


@dataclass(frozen=True)
class Token:
    """A bearer token that was made for a principal; the token itself is kept nowhere.

    ``role`` is what it may do where it is shown to a server; ``established`` says how ``created_by`` was known who made it.
    """

    id: int
    principal: str
    role: Role
    note: str
    created_us: int
    created_by: str
    established: str
    expires_us: int | None
    revoked_us: int | None
    revoked_by: str | None

    def in_force(self, now_us: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


@dataclass(frozen=True, slots=True)
class TokenDigest:
    """What a server knows a token by.

    Attributes:
        digest: As ``digest_of_token`` says.
        principal: Whose it is.
        role: What it may do.
        expires_us: When it ends, microseconds since the epoch, UTC; never if None.
    """

    digest: str
    principal: str
    role: Role
    expires_us: int | None


def may(role: Role, needed: Role) -> bool:
    """Whether a role is enough.

    Args:
        role: What a token has.
        needed: What something asks for.

    Example:
        >>> may("write", "read"), may("write", "admin")
        (True, False)
    """
    # A later version may have given a role that this one does not know: it may nothing.
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def digest_of_token(token: str) -> str:
    """What is kept of a token. It is random and long, so that no slow hash is needed to keep it from being guessed.

    Example:
        >>> digest_of_token("mlc_x")[:15]
        'sha256:3bca13db'
    """
    # What an environment holds need not be UTF-8; such a token is unknown, no failure.
    kept = token.strip().encode(errors="surrogateescape")
    return f"sha256:{hashlib.sha256(kept).hexdigest()}"


class Tokens(Scope):
    """The bearer tokens of one namespace."""

    def create_token(
        self,
        principal: str,
        *,
        role: Role = "read",
        note: str = "",
        expires_us: int | None = None,
        force: bool = False,
    ) -> tuple[Token, str]:
        """Make a token for a principal.

        Once there is a token in force, only somebody who is known by a token may make another one: else a claimed
        name could be turned into an established one.

        Args:
            principal: Whose it is, e.g. ``ops@example.org``.
            role: What it may do where it is shown to a server; commands ask for none.
            note: What it is for, in words.
            expires_us: When it ends, microseconds since the epoch, UTC; never if None.
            force: Make it though the maker is not known by a token; the audit log says so.

        Returns:
            Its record, and the token, which cannot be had a second time.

        Raises:
            UsageError: The principal is no name, the role is none, or the time has passed.
            MetadataError: The maker is not known by a token, and tokens are in force.
        """
        if not _PRINCIPAL.fullmatch(principal):
            raise UsageError(f'"{principal}" names no principal', expected="letters, digits and @ . _ : + -")
        if role not in ROLES:
            raise UsageError(f'"{role}" is no role', expected=", ".join(ROLES), hint=nearest(role, ROLES))
        now, token = self._clock.now_us(), _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        if expires_us is not None and expires_us <= now:
            raise UsageError(f"a token cannot end at {format_time(expires_us)}: that has passed")
        with self._database.writing() as session:
            self._may_change(session, force)
            row = TokenRow(
                namespace_id=self._namespace_id(session),
                principal=principal,
                role=role,
                digest=digest_of_token(token),
                note=note,
                created_us=now,
                created_by=self._principal.name,
                established=self._principal.established,
                expires_us=expires_us,
            )
            session.add(row)
            session.flush()
            details = {"principal": principal, "role": role, "note": note, "expires_us": expires_us}
            details["forced"] = force
            self._note_token(session, "token.create", row, details)
            return to_record(Token, row), token

    def list_tokens(self) -> list[Token]:
        """The tokens of this namespace, revoked and expired ones too, in the order in which they were made."""
        with self._database.reading() as session:
            return [to_record(Token, row) for row in self._token_rows(session)]

    def tokens_in_force(self) -> list[TokenDigest]:
        """What a server needs to know of the tokens that are neither revoked nor expired."""
        now = self._clock.now_us()
        with self._database.reading() as session:
            rows = [row for row in self._token_rows(session) if to_record(Token, row).in_force(now)]
            return [to_record(TokenDigest, row) for row in rows]

    def revoke_token(self, token_id: int, *, why: str = "", force: bool = False) -> Token:
        """End a token. One that was revoked already stays as it was.

        Args:
            token_id: ``Token.id``.
            why: The reason, in words.
            force: Revoke it though the revoker is not known by a token; the audit log says so.

        Raises:
            UnknownNameError: There is no such token in this namespace.
            MetadataError: The revoker is not known by a token.
        """
        with self._database.writing() as session:
            rows = self._token_rows(session)
            row = next((one for one in rows if one.id == token_id), None)
            if row is None:
                have = ", ".join(str(one.id) for one in rows)
                raise UnknownNameError(
                    f"there is no token {token_id}", hint=f"There are: {have}." if have else "There are none."
                )
            if row.revoked_us is None:
                self._may_change(session, force)
                row.revoked_us, row.revoked_by = self._clock.now_us(), self._principal.name
                details = {"principal": row.principal, "why": why, "forced": force}
                self._note_token(session, "token.revoke", row, details)
            return to_record(Token, row)

    def principal_of_token(self, token: str) -> Principal:
        """Who a token stands for.

        Raises:
            MetadataError: It is unknown in this namespace, revoked or expired; which one is not told.
        """
        return read_principal(self._database, self._clock, self._namespace, token)

    def _may_change(self, session: Session, force: bool) -> None:
        now = self._clock.now_us()
        guarded = any(to_record(Token, row).in_force(now) for row in self._token_rows(session))
        if guarded and self._principal.established != "token" and not force:
            raise MetadataError(
                f"{self._principal} is not known by a token, and only who is may change tokens",
                hint="Set MLCORE_TOKEN to your token; with none left: --force, which the audit log tells.",
            )

    def _token_rows(self, session: Session) -> list[TokenRow]:
        query = (
            select(TokenRow)
            .join(NamespaceRow, TokenRow.namespace_id == NamespaceRow.id)
            .where(NamespaceRow.name == self._namespace)
        )
        return list(session.scalars(query.order_by(TokenRow.id)))

    def _note_token(
        self, session: Session, action: str, row: TokenRow, details: Mapping[str, object]
    ) -> None:
        append(session, self._clock, self._principal, self._scope_name, action, f"token:{row.id}", details)


def read_principal(database: Database, clock: Clock, namespace: str, token: str) -> Principal:
    """Who a token stands for, in a database that is open; see :meth:`Tokens.principal_of_token`."""
    with database.reading() as session:
        row = session.scalar(
            select(TokenRow)
            .join(NamespaceRow, TokenRow.namespace_id == NamespaceRow.id)
            .where(NamespaceRow.name == namespace, TokenRow.digest == digest_of_token(token))
        )
        if row is None or not to_record(Token, row).in_force(clock.now_us()):
            raise MetadataError(
                "the token is none that is in force here",
                place=database.shown,
                hint="See: mlcore tokens list. MLCORE_TOKEN or [principal] token names it.",
            )
        return Principal(row.principal, "token")
