"""Kernel that picks values by their places, as Arrow wants them: values, and bits that say which are there.

``tests/engine/test_run.py`` holds it to a plain loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.engine.times import Int64

__all__ = ["picked"]


@kernel
def picked(values: Any, valid: Any, places: Int64) -> tuple[Any, Any, int]:
    """Pick values by their places; none is there where the place is negative, or the value is null or not a number.

    Args:
        values: Numbers, (n,).
        valid: Which of them are there, bool (n,); empty where all are.
        places: Places, (m,).

    Returns:
        The values, zero where none is there, (m,); a bit each, least first, that says whether one is, uint8
        (ceil(m / 8),); and how many are not.
    """
    m = len(places)
    found = np.empty(m, values.dtype)
    bits = np.zeros((m + 7) // 8, np.uint8)
    missing = 0
    for byte in range(len(bits)):
        there = 0
        for i in range(8 * byte, min(8 * byte + 8, m)):
            place = places[i]
            if place >= 0 and values[place] == values[place] and (len(valid) == 0 or valid[place]):
                found[i] = values[place]
                there |= 1 << (i & 7)
            else:
                found[i] = 0
                missing += 1
        bits[byte] = there
    return found, bits, missing
