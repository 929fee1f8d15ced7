"""Threads of OpenMP sleep while they wait for each other, as workers' do, unless the user has said otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

LIBRARIES = {
    "xgboost": "import mlflow_core.train.xgboost.rank",
    "torch": "import mlflow_core.train.torch.loop",
    "sklearn": "import mlflow_core.train.sklearn.fit, sklearn.ensemble",
}


def _run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def _spins(said: str) -> set[str]:
    """How often each library that was loaded looks again before it sleeps; ``libgomp`` prints it when it is loaded."""
    return set(re.findall(r"GOMP_SPINCOUNT = '(\w+)'", said))


@pytest.mark.parametrize("library", LIBRARIES)
def test_threads_of_a_training_in_this_process_sleep_while_they_wait(library: str) -> None:
    said = _run(LIBRARIES[library], OMP_DISPLAY_ENV="VERBOSE").stderr

    assert _spins(said) == {"0"}


def test_the_users_own_setting_is_kept() -> None:
    said = _run(LIBRARIES["xgboost"], OMP_DISPLAY_ENV="VERBOSE", OMP_WAIT_POLICY="ACTIVE").stderr

    assert _spins(said)
    assert "0" not in _spins(said)


def test_a_service_that_only_calls_us_keeps_its_own_environment() -> None:
    program = "import os, mlflow_core.client; print(os.environ.get('OMP_WAIT_POLICY'))"

    assert _run(program).stdout == "None\n"
