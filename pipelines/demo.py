"""The flagship from files to a prediction: ``python -m pipelines.demo``, which is what ``make demo`` runs.

Every step that has a command is that command, run in this process; what it prints is what you would see.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PIPELINE, SERVICE = "late_arrival", "delay_model"
BOUNDARY = "2013-11-15T12:00Z"
MATERIALISED_AT = "2013-11-15T12:10Z"
ASKED_AT = "2013-11-15T12:30:00Z"
REPEATS = 200


class Failed(Exception):
    """A command ended with an exit code other than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> int:
    """Run the demo; return the exit code of the first command that failed, or 0."""
    began = time.monotonic()
    seconds: dict[str, float] = {}
    try:
        with stage("1. The data: 336,776 flights out of New York in 2013", seconds):
            prepare()
        with stage("2. Declare, plan, apply: features go to Feast's registry", seconds):
            command("apply")
        with stage(
            "3. Train on Dask as served, and under the two other clocks to see what they pretend", seconds
        ):
            command("train", PIPELINE, "--compare-clocks")
        with stage(f"4. Materialise every view, as due at {BOUNDARY}", seconds):
            command("materialize", "--to", BOUNDARY, "--clock", MATERIALISED_AT)
        with stage("5. Ask for features and a prediction, on a clock of 2013", seconds):
            ask()
    except Failed as failed:
        return failed.code
    print("\nTook " + ", ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items()), end="")
    print(f": {time.monotonic() - began:.0f} s in all.")
    print(NEXT)
    return 0


NEXT = f"""
Try next (source .venv/bin/activate, or write .venv/bin/mlcore):
  mlcore runs show latest
  mlcore models list
  mlcore models history {PIPELINE}
  mlcore dataset show {PIPELINE}
  mlcore dataset build {PIPELINE} --explain
  mlcore features list
  mlcore serve --clock from:{ASKED_AT}
"""


def prepare() -> None:
    """Write the Parquet files, or find them up to date."""
    from feature_repo.prepare_data import DATA
    from feature_repo.prepare_data import prepare as prepare_data

    print(f"  {DATA.relative_to(ROOT)}: {'written' if prepare_data() else 'up to date'}")


def ask() -> None:
    """Ask once as a person would, then often enough to know how long it takes."""
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.cli.context import Invocation
    from mlflow_core.config import FixedClock
    from mlflow_core.serve.features import Features
    from mlflow_core.serve.predict import Models, Predictor
    from mlflow_core.serve.request import columns_of_text

    call = Invocation(given_root=ROOT)
    flight = flight_leaving_after(ASKED_AT)
    at = flight["scheduled_departure"] - 2 * 3_600_000_000
    models = Models(call.metadata, ArtifactStore(call.settings.artifact_location()))
    features = Features.open(call.repo, FixedClock(at))
    try:
        service = features.service(SERVICE)
        row = columns_of_text(
            service, {name: str(value) for name, value in asked_of(service, flight).items()}
        )
        answer = features.answer(service, row)
        predictor, model = Predictor(features, models), models.get(PIPELINE)
        prediction = predictor.predict(model, row)
        present = sum(statuses[0].value == "PRESENT" for statuses in answer.statuses.values())
        print(f"  Flight {flight['flight_id']} to {flight['dest']}, two hours before it was to leave:")
        for name in ("dep_delay_mean_3h", "carrier_late_24h", "route_late_28d", "visib", "minutes_since_leg"):
            print(f"    {name:<24}{answer.columns[name][0]!s:<24}{answer.statuses[name][0].value}")
        print(f"    and {len(answer.columns) - 5} more; {present} of {len(answer.columns)} present")
        print(f"  P(more than 15 minutes late) = {prediction.values[0]:.3f}; it came {outcome(flight)}.")
        print(f"  One feature request  {milliseconds(lambda: features.answer(service, row))}")
        print(f"  One prediction       {milliseconds(lambda: predictor.predict(model, row))}")
    finally:
        features.close()
    words = " ".join(f"{name}={value}" for name, value in asked_of(service, flight).items())
    print(f"  As commands:\n    mlcore features get {SERVICE} --at {clock_text(at)} {words}")
    print(f"    mlcore predict {PIPELINE} --at {clock_text(at)} {words}")


def asked_of(service: Any, flight: dict[str, Any]) -> dict[str, Any]:
    """Keys and request fields of the service, as the flight has them."""
    given = {**flight, "scheduled_departure": clock_text(flight["scheduled_departure"])}
    wanted = [name for name in given if name in {*service.keys, *service.request}]
    return {name: given[name] for name in wanted}


def flight_leaving_after(asked_at: str) -> dict[str, Any]:
    """The first flight on file that leaves two hours after the moment or later; times in microseconds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from feature_repo.prepare_data import DATA
    from mlflow_core.config.times import parse_time

    table = pq.read_table(DATA / "flights.parquet")
    table = table.set_column(
        table.column_names.index("scheduled_departure"),
        "scheduled_departure",
        table["scheduled_departure"].cast(pa.int64()),
    )
    later = table.filter(
        pc.and_(
            pc.greater_equal(table["scheduled_departure"], parse_time(asked_at) + 2 * 3_600_000_000),
            pc.is_valid(table["arr_delay"]),
        )
    )
    found: dict[str, Any] = later.slice(0, 1).to_pylist()[0]
    return found


def outcome(flight: dict[str, Any]) -> str:
    """What became of the flight."""
    minutes = flight["arr_delay"]
    return f"{minutes:.0f} minutes late" if minutes > 0 else f"{-minutes:.0f} minutes early"


def milliseconds(action: Any) -> str:
    """Measure an action many times, the first time left out."""
    action()
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        took.append((time.perf_counter() - start) * 1000)
    return f"{statistics.median(took):.2f} ms (median of {REPEATS}, 99 % within {sorted(took)[int(REPEATS * 0.99)]:.2f} ms)"


def clock_text(us: int) -> str:
    """A moment as text."""
    from mlflow_core.config.times import format_time

    return format_time(us)


def command(*words: str) -> None:
    """Run a command of mlcore in this process."""
    from mlflow_core.cli.boundary import run

    print(f"  $ mlcore {' '.join(words)}", flush=True)
    code = run(["--root", str(ROOT), *words])
    if code:
        raise Failed(code)


@contextmanager
def stage(title: str, seconds: dict[str, float]) -> Iterator[None]:
    """Print a stage's title, and how long it took when it is done."""
    print(f"\n{title}", flush=True)
    began = time.monotonic()
    yield
    spent = time.monotonic() - began
    seconds[STAGES[len(seconds)]] = spent
    print(f"  ({spent:.1f} s)", flush=True)


STAGES: Sequence[str] = ("data", "apply", "training", "materialisation", "requests")


if __name__ == "__main__":
    sys.exit(main())
