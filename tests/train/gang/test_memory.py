"""A worker that may take less memory than is declared is refused before anything runs; what is left is read rightly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from distributed import Client

from mlflow_core.config.sizes import parse_size
from mlflow_core.errors import MachineError, TrainError
from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.gang import run_gang
from mlflow_core.train.gang.memory import memory_here, memory_left
from mlflow_core.train.gang.rank import Rank
from mlflow_core.train.gang.seats import Member, check_cluster, members, seats

GIB = 1 << 30


def cluster_of(*memory: int) -> dict[str, Member]:
    """Workers with such limits, one on each host."""
    return {
        f"tcp://10.0.0.{number}:1": Member(str(number), 2, True, False, True, one)
        for number, one in enumerate(memory)
    }


def test_workers_with_less_have_no_seat_while_others_have_enough() -> None:
    present = cluster_of(GIB, 4 * GIB, 2 * GIB, 0)

    chosen = seats(present, 3, memory=2 * GIB)

    assert [one.address for one in chosen] == ["tcp://10.0.0.1:1", "tcp://10.0.0.2:1", "tcp://10.0.0.3:1"]
    assert len(seats(present, 4)) == 4


@pytest.mark.parametrize("ranks", [1, 2])
def test_where_too_few_have_enough_the_error_names_those_that_have_less(ranks: int) -> None:
    present = cluster_of(*[GIB] * 5, *[4 * GIB] * (ranks - 1))

    with pytest.raises(MachineError) as raised:
        seats(present, ranks, memory=2 * GIB)

    told = str(raised.value)
    assert "memory_per_worker says 2.0 GiB" in told
    assert (
        "tcp://10.0.0.0:1 1.0 GiB, tcp://10.0.0.1:1 1.0 GiB, tcp://10.0.0.2:1 1.0 GiB, and 2 others" in told
    )
    assert f"Expected {ranks} workers that may take so much" in told
    assert "cluster.memory" in told


def test_too_few_workers_are_told_as_such_whatever_memory_they_have() -> None:
    with pytest.raises(
        TrainError, match=r"2 ranks were asked for, but the cluster has 0 workers of use, and 1 that .* less"
    ):
        seats(cluster_of(GIB), 2, memory=2 * GIB)


def where(rank: Rank) -> int:
    return memory_here()


def test_a_worker_has_its_limit_and_is_refused_beyond_it(two: Client) -> None:
    assert {one.memory for one in members(two).values()} == {GIB}
    result = run_gang(two, where, ranks=2, recovery=Recovery(), memory=GIB)
    assert result.results == (GIB, GIB)

    with pytest.raises(
        MachineError, match=r"XGBoost: memory_per_worker says 1.0 GiB.*tcp://127\.0\.0\.1:\d+ 1.0 GiB"
    ):
        check_cluster(two, 2, memory=GIB + 1, object="XGBoost", place="here.py:3")
    with pytest.raises(MachineError, match="these workers have a lower limit"):
        run_gang(two, where, ranks=1, recovery=Recovery(replace_within="0s"), memory=2 * GIB)


def test_a_process_alone_is_refused_beyond_what_its_machine_has_left() -> None:
    check_cluster(None, 1, memory=1 << 20)
    check_cluster(None, 1, memory=0)

    with pytest.raises(
        MachineError, match=r"this process may take .* GiB, and memory_per_worker says 1024.0 TiB"
    ):
        check_cluster(None, 1, memory=parse_size("1024TiB"))


def group(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def test_control_groups_leave_their_limit_less_what_is_used_but_for_the_cache_of_files(
    tmp_path: Path,
) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    own.write_text("0::/jobs/one\n")
    stat = "anon 5\ninactive_file 3000\nactive_file 7"
    group(groups / "jobs" / "one", {"memory.max": "max", "memory.current": "9000", "memory.stat": stat})
    group(groups / "jobs", {"memory.max": "20000", "memory.current": "9000", "memory.stat": stat})

    assert memory_left(groups, own) == 20000 - 9000 + 3000
    group(groups / "jobs" / "one", {"memory.max": "10000"})
    assert memory_left(groups, own) == 10000 - 9000 + 3000
    group(groups / "jobs" / "one", {"memory.max": "1000"})
    assert memory_left(groups, own) == 0


def test_control_groups_of_the_first_version_and_those_that_a_container_sees_count_too(
    tmp_path: Path,
) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/elsewhere\n4:memory:/docker/not-seen-in-here\n0::/\n")
    stat = "cache 1\ntotal_inactive_file 500"
    limits = {"memory.limit_in_bytes": "5000", "memory.usage_in_bytes": "4000"}
    group(groups / "memory", {**limits, "memory.stat": stat})

    assert memory_left(groups, own) == 1500


def test_a_control_group_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    own.write_text("0::/gone\n")
    (groups / "gone" / "memory.max").mkdir(parents=True)
    group(groups, {"memory.max": "700", "memory.current": "100", "memory.stat": "inactive_file 0"})

    assert memory_left(groups, own) == 600


def test_without_control_groups_it_is_what_the_machine_has_left(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total

    assert 0 < memory_left(tmp_path, tmp_path / "nowhere") <= total
    assert 0 < memory_here() <= total
