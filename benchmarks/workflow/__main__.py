"""``make bench-workflow``: what a step costs in the runner, beside a task of Dask's own."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from distributed import Client, LocalCluster

from benchmarks.results import Row, markdown, report
from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore
from mlflow_core.telemetry.progress import SilentProgress
from mlflow_core.workflow.graph import Graph, Node, NodeContext, Output
from mlflow_core.workflow.journal import Journal
from mlflow_core.workflow.keys import KeyParts
from mlflow_core.workflow.runner import Runner

GOAL_MS, RUNS = 20.0, 3


def main() -> None:
    """Run both, print the table and write the results."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--steps", type=int, default=100)
    arguments.add_argument("--markdown", action="store_true")
    given = arguments.parse_args()
    if given.markdown:
        print(markdown("workflow"))
        return
    steps: int = given.steps
    dask = median(of_dask(steps))
    with tempfile.TemporaryDirectory(prefix="bench-workflow-") as scratch:
        made, found = ours(steps, Path(scratch))
    rows = [
        row(f"a chain of {steps} steps that do nothing", median(made), dask),
        row(f"the same again, all {steps} found", median(found), dask),
    ]
    print(f"written to {report('workflow', rows)}")


def row(case: str, mine: float, dask: float) -> Row:
    """One row: milliseconds a step, and by how much the goal is kept."""
    beyond = mine - dask
    ratio = GOAL_MS / beyond if beyond > 0 else None
    note = f"{beyond:.1f} ms a step beyond Dask's own; the goal is below {GOAL_MS:g}"
    return Row(
        case, "ms a step", mine, "Dask, submit and wait", dask, ratio, 1.0, beyond < GOAL_MS, note=note
    )


def of_dask(steps: int) -> list[float]:
    """Milliseconds a task of a chain on a local worker process, for each run."""
    taken = []
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for run in range(RUNS + 1):
            start = time.perf_counter()
            future = client.submit(_nothing, run, pure=False)
            for _ in range(steps - 1):
                future.result()
                future = client.submit(_nothing, future, pure=False)
            future.result()
            taken.append((time.perf_counter() - start) / steps * 1e3)
    return taken[1:]


def ours(steps: int, folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds a step of a chain in the runner, for each run: made, and found again."""
    made, found = [], []
    with MetadataStore(
        f"sqlite:///{folder / 'metadata.sqlite'}", SystemClock(), Principal("bench")
    ) as metadata:
        store = ArtifactStore(str(folder / "artifacts"))
        for run in range(RUNS + 1):
            for taken in (made, found):
                taken.append(_run(metadata, store, _chain(steps, run), folder) / steps * 1e3)
    return made[1:], found[1:]


def _run(metadata: MetadataStore, store: ArtifactStore, graph: Graph, folder: Path) -> float:
    run_id = metadata.create_run("chain").id
    draft = folder / run_id
    draft.mkdir()
    with Journal(metadata, store, run_id, SilentProgress(), log=draft / "log.jsonl").whole() as hold:
        start = time.perf_counter()
        Runner(Journal(metadata, store, run_id, SilentProgress()), hold, draft).run(graph)
        return time.perf_counter() - start


def _chain(steps: int, run: int) -> Graph:
    nodes = [
        Node(
            f"step_{number}",
            (f"step_{number - 1}",) if number else (),
            KeyParts(
                code={"mlflow_core": "0" * 64}, params={"run": run, "number": number}, environment="0" * 64
            ),
            _leave,
        )
        for number in range(steps)
    ]
    return Graph.of(nodes)


def _leave(context: NodeContext) -> Output:
    read = b"".join(context.artifacts.read_bytes(one.digest) for one in context.inputs.values())
    text = f"{context.run_id} {len(read)} {sorted(context.inputs)}".encode()
    return Output(context.artifacts.put_bytes(text).digest, "value")


def _nothing(value: int) -> int:
    return value


if __name__ == "__main__":
    main()
