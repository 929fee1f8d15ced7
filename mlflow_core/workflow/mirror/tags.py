"""The tags by which both sides know a run's copy; the process that speaks to MLflow loads nothing else of ours."""

from __future__ import annotations

from typing import Final

__all__ = ["DIGEST_TAG", "RUN_TAG", "WHOLE_TAG"]

RUN_TAG: Final = "mlcore.run"
"""By which the copy of a run is found: our run's id."""
WHOLE_TAG: Final = "mlcore.copied"
"""Written last: which state of the run its copy is whole of."""
DIGEST_TAG: Final = "mlcore.digest"
"""Of a model's version: its files' digest in our store."""
