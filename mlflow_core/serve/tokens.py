"""Who may write: bearer tokens, of which only digests are kept here, the principals they stand for, and their roles.

Tokens that the settings name may do everything; those that ``mlcore tokens create`` made may do what their role says. A
token is looked up by its SHA-256: whoever has none of them can learn nothing from how long that takes, for nobody can
choose what a digest begins with.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from mlflow_core.config.principal import Principal
from mlflow_core.metadata.tokens import Role, digest_of_token, may
from mlflow_core.serve.issued import IssuedTokens
from mlflow_core.serve.refusal import Refusal

__all__ = ["Tokens"]

_EVERYTHING: Role = "admin"


class Tokens:
    """The callers who may write.

    Args:
        by_name: Each caller's token by the name that changes are recorded with.
        issued: The tokens that are kept in the metadata database; None where none of those count.

    Example:
        >>> str(Tokens({"ops": "a token of sixteen"}).principal(b"Bearer a token of sixteen", "write"))
        'ops'
    """

    def __init__(self, by_name: Mapping[str, str] | None = None, issued: IssuedTokens | None = None) -> None:
        self._configured = {digest_of_token(token): name for name, token in (by_name or {}).items()}
        self._issued = issued

    async def established(self, authorization: bytes, needed: Role) -> Principal:
        """Return who calls, having looked into the database where memory does not say; see ``principal``."""
        digest = _digest_in(authorization)
        if self._issued is not None and digest is not None and digest not in self._configured:
            await self._issued.catch_up(digest)
        return self.principal(authorization, needed)

    def principal(self, authorization: bytes, needed: Role) -> Principal:
        """Return who calls, as far as memory says.

        Args:
            authorization: The header of that name, or nothing.
            needed: The role that is asked for.

        Raises:
            Refusal: Nobody may write here, or this caller may not (403); there is no token or a wrong one (401), and no
                more is said than that; or whether there is one cannot be told now (503).
        """
        digest, issued = _digest_in(authorization), self._issued
        name = None if digest is None else self._configured.get(digest)
        if name is not None:
            return Principal(name, "token")
        if not self._configured and (issued is None or (issued.counts and issued.none_made)):
            raise Refusal(
                "nobody may write through this server: it was given no token",
                status=403,
                hint="Make one: mlcore tokens create NAME --role write. Or name one in mlcore.toml: [serve.tokens] "
                'ops = "${env:OPS_TOKEN}".',
            )
        if digest is None or issued is None:
            raise _none_known(authorization)
        if not issued.counts:
            raise Refusal(
                "the token cannot be checked: the metadata database has not been readable for some seconds",
                status=503,
                hint="Try again; tokens that mlcore.toml names go on working.",
                retry_after_s=1,
                degraded="metadata",
            )
        found = issued.find(digest)
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise _none_known(authorization)
        if not may(found.role, needed):
            raise Refusal(
                f'the token is one of "{found.principal}" with the role "{found.role}"',
                status=403,
                expected=f'the role "{needed}"',
                hint=f"Make one: mlcore tokens create {found.principal} --role {needed}.",
            )
        return Principal(found.principal, "token")

    def refresh(self) -> None:
        """Read the tokens of the database again, blocking.

        Raises:
            MetadataError: It cannot be read.
        """
        if self._issued is not None:
            self._issued.refresh()

    def close(self) -> None:
        """Give back what tokens are read from."""
        if self._issued is not None:
            self._issued.close()


def _digest_in(authorization: bytes) -> str | None:
    """The digest of the token in a header, or None where it holds none."""
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        return None
    return digest_of_token(token.decode("utf-8", "surrogateescape"))


def _none_known(authorization: bytes) -> Refusal:
    token = authorization.partition(b" ")[2].strip()
    said = "the token is none that this server knows" if token else "writing needs a token"
    return Refusal(said, status=401, expected='the header "Authorization: Bearer TOKEN"')
