"""What the file in a training set is called that says what the others hold.

It stands alone so that who only reads that file need not load what computes training sets.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MANIFEST"]

MANIFEST: Final = "dataset.json"
"""The file that ``mlflow_core.engine.dataset.compute`` writes beside the folders of shards."""
