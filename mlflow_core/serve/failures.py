"""What a caller is told where a request failed: each kind of error its status; the cause of a fault goes to the log alone."""

from __future__ import annotations

from mlflow_core.errors import ServeError, StoredRowError, StoreError, StoreTimeout
from mlflow_core.serve.messages import Reply, json_reply
from mlflow_core.serve.refusal import Refusal
from mlflow_core.telemetry import get_logger

__all__ = ["failed"]

_log = get_logger("serve")


def failed(route: str, error: Exception, deadline_s: float) -> Reply:
    """Say what went wrong; the boundary of the process for whatever was not foreseen.

    Args:
        route: The route's pattern.
        error: Why there is no answer.
        deadline_s: How long an answer may take.
    """
    if isinstance(error, Refusal):
        if error.status >= 500:
            _log.warning("a request was not answered", extra={"route": route, "why": str(error)})
        return _refused(error)
    if isinstance(error, ServeError):
        return _refused(Refusal(error.what, object=error.object, expected=error.expected, hint=error.hint))
    if isinstance(error, StoreTimeout):
        _log.warning("the online store gave no answer in time", extra={"why": str(error)})
        why = "the online store gave no answer in time"
        return _refused(Refusal(why, status=504, hint="See /readyz.", degraded="store"))
    if isinstance(error, StoredRowError):
        _log.error("a stored row cannot be read", extra={"why": str(error)})
        why = f"{error.object}: {error.what}"
        return _refused(Refusal(why, status=503, hint=error.hint, retry_after_s=1, degraded="store"))
    if isinstance(error, StoreError):
        _log.error("the online store cannot be read", extra={"why": str(error)})
        why = "the online store cannot be read"
        return _refused(Refusal(why, status=503, hint="See /readyz.", retry_after_s=1, degraded="store"))
    if isinstance(error, TimeoutError):
        why = f"no answer within {deadline_s:g} s"
        _log.warning("a request was not answered", extra={"route": route, "why": why})
        return _refused(Refusal(why, status=504, hint="See /readyz."))
    # The caller learns that it was our fault, the log learns why.
    _log.error("a request failed", extra={"route": route}, exc_info=error)
    return _refused(Refusal("the server has a fault; its log holds the cause", status=500))


def _refused(error: Refusal) -> Reply:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if error.retry_after_s is not None:
        headers = ((b"retry-after", str(error.retry_after_s).encode()),)
    if error.status == 401:
        headers = ((b"www-authenticate", b'Bearer realm="mlcore"'),)
    return json_reply(error.body(), error.status, headers)
