"""Numbers of several workers: those of the dead stay, whatever process number the next one gets."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow_core.serve.metrics import Metrics


def test_a_worker_with_the_number_of_a_dead_one_counts_on_and_no_counter_falls(tmp_path: Path) -> None:
    dead = Metrics(tmp_path)
    dead.in_flight = 3  # as it was killed
    dead.request("/v1/features", 200, 0.001)
    dead.share()

    reborn = Metrics(tmp_path)  # another one, whose process number is the same
    reborn.in_flight = 1
    reborn.request("/v1/features", 200, 0.001)
    page = reborn.text().decode()

    assert 'mlcore_requests_total{route="/v1/features",status="200"} 2.0' in page
    assert "mlcore_requests_in_flight 1.0" in page
    assert {file.name.split("-")[0] for file in tmp_path.glob("*.json")} == {str(os.getpid())}
    assert len(list(tmp_path.glob("*.json"))) == 2
