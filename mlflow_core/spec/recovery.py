"""What a training does when a worker is lost."""

from __future__ import annotations

from pydantic import Field

from mlflow_core.spec.duration import Duration
from mlflow_core.spec.model import Spec

__all__ = ["Recovery"]


class Recovery(Spec):
    """What a training does when a worker is lost.

    It goes on from the last checkpoint: on as many ranks as before if the cluster brings a worker in time (then the
    model is the same as that of an undisturbed training), else, if ``shrink`` allows it, on the workers left.

    Args:
        replace_within: How long a replacement is waited for.
        shrink: Whether it may go on with fewer ranks; otherwise it ends with an error, and can be resumed.
        restarts: How many workers may be lost before it ends with an error.
    """

    replace_within: Duration = Duration("30s")
    shrink: bool = True
    restarts: int = Field(default=10, ge=0)
