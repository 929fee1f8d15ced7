"""Eight processes that write at once, two hundred times each: no row is lost, and the audit chain stays whole."""

from __future__ import annotations

from multiprocessing import get_context

from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore, SpecVersion
from mlflow_core.metadata.health import examine

PROCESSES, WRITES = 8, 200
ROUNDS = WRITES // 5


def write(url: str, worker: int) -> None:
    """Two hundred transactions, three of five with a row of the audit log."""
    with MetadataStore(url, SystemClock(), Principal(f"writer-{worker}"), busy_timeout_s=120) as store:
        for n in range(ROUNDS):
            run = store.create_run(f"p{worker}")
            store.log_metrics(run.id, {"auc": n / ROUNDS, "worker": worker})
            store.register_model_version("shared", run.id, f"sha256:{worker}-{n}")
            store.record_apply([SpecVersion("View", "v", f"sha256:{worker}-{n}", "{}")])
            store.record_audit("test", f"worker:{worker}", {"n": n})


def test_eight_processes_lose_no_row_and_the_chain_stays_whole(empty_url: str) -> None:
    # They also race to create the tables.
    with get_context("spawn").Pool(PROCESSES) as pool:
        pool.starmap(write, [(empty_url, worker) for worker in range(PROCESSES)])

    total = PROCESSES * ROUNDS
    with MetadataStore(empty_url, SystemClock(), Principal("reader")) as store:
        runs = store.list_runs(limit=10 * total)
        assert len(runs) == total
        values = store.latest_metrics([run.id for run in runs])
        for worker in range(PROCESSES):
            mine = [values[run.id] for run in runs if run.pipeline == f"p{worker}"]
            assert sorted(one["auc"].value for one in mine) == [n / ROUNDS for n in range(ROUNDS)]
            assert {one["worker"].value for one in mine} == {worker}
        versions = store.list_versions("shared")
        assert sorted(one.version for one in versions) == list(range(1, total + 1))
        assert {one.run_id for one in versions} == {run.id for run in runs}
        assert len(store.list_applies(limit=10 * total)) == total
        rows = store.audit_entries(limit=100 * total)
        assert [row.seq for row in rows] == list(range(1, 3 * total + 1))
        for worker in range(PROCESSES):
            told = [row.details for row in rows if row.object == f"worker:{worker}"]
            assert told == [f'{{"n":{n}}}' for n in range(ROUNDS)]
    health = examine(empty_url)
    assert health.ok, health.problems
    assert health.audit is not None
    assert health.audit.rows == 3 * total
