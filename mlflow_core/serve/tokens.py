"""Who may write: bearer tokens, of which only digests are kept here, and the principals they stand for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from mlflow_core.config.principal import Principal
from mlflow_core.serve.refusal import Refusal

__all__ = ["Tokens"]


class Tokens:
    """The callers who may write.

    Args:
        by_name: Each caller's token by the name that changes are recorded with.

    Example:
        >>> str(Tokens({"ops": "a token of sixteen"}).principal(b"Bearer a token of sixteen"))
        'ops'
    """

    def __init__(self, by_name: Mapping[str, str] | None = None) -> None:
        self._digests = [(_digest(token.encode()), name) for name, token in (by_name or {}).items()]

    def principal(self, authorization: bytes) -> Principal:
        """Return who calls.

        Args:
            authorization: The header of that name, or nothing.

        Raises:
            Refusal: Nobody may write here (403), or there is no token or a wrong one (401). Says no more than that.
        """
        if not self._digests:
            raise Refusal(
                "nobody may write through this server: it was given no token",
                status=403,
                hint='Name one in mlcore.toml: [serve.tokens] ops = "${env:OPS_TOKEN}".',
            )
        scheme, _, token = authorization.partition(b" ")
        given, found = _digest(token.strip()), None
        for digest, name in self._digests:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(digest, given):
                found = name
        if scheme.lower() != b"bearer" or found is None:
            said = "the token is none that this server knows" if token else "writing needs a token"
            raise Refusal(said, status=401, expected='the header "Authorization: Bearer TOKEN"')
        return Principal(found, "token")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
