"""Code in an interpreter of its own, which has loaded nothing yet: what it says, and which libraries it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from tests.house.repository import ROOT


def fresh(code: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code that finds this repository's packages wherever it runs."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def loaded_by(code: str, libraries: Collection[str], cwd: Path | None = None) -> list[str]:
    """Which of some libraries code has loaded when it has ended well; whatever else it says to stderr is among them."""
    told = f"import sys; print(*sorted({set(libraries)!r} & set(sys.modules)), file=sys.stderr)"
    answer = fresh(f"{code}\n{told}", cwd)
    assert answer.returncode == 0, answer.stderr
    return answer.stderr.split()
