"""Shared storage that fills up or vanishes: one clear error, and no files left where any are left to be."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_core.engine.route import OnDask
from mlflow_core.errors import EngineError
from tests.chaos.conftest import disturbed, how_long
from tests.chaos.world import BUCKETS, same_bits

pytestmark = pytest.mark.chaos


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds 600 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"the kernel forbids mounting: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("full", ["work", "out"])
def test_a_full_disk_is_one_clear_error_and_leaves_no_file(world, client, small_disk, full):
    world = replace(world, **{full: small_disk / full})

    with pytest.raises(EngineError, match=r"(?i)disk is full|no space left|make room"):
        world.shards(OnDask(client, world.work, buckets=BUCKETS))

    assert world.left() == []
    assert not list(world.out.glob("part-*"))


def limit_files(size: int) -> None:
    """Let this process write no file that is larger; Python ignores the signal, so it is an error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_workers_that_may_write_no_large_file_are_one_clear_error_and_leave_no_file(world, truth, client):
    client.run(limit_files, 20_000)
    try:
        with pytest.raises(EngineError, match="File too large"):
            world.shards(OnDask(client, world.work, buckets=BUCKETS))
    finally:
        client.run(limit_files, resource.RLIM_INFINITY)

    assert world.left() == []
    assert same_bits(world.shards(OnDask(client, world.work, buckets=BUCKETS)), truth)


@pytest.mark.long
def test_a_work_folder_that_vanishes_at_any_moment_is_the_same_bits_or_one_clear_error(world, truth, client):
    route = OnDask(client, world.work, buckets=BUCKETS)
    lasts, hits = how_long(lambda: world.shards(route)), 0

    for seed in range(6):
        for shard in world.out.glob("part-*"):
            shard.unlink()
        gone = world.base / f"gone-{seed}"
        with disturbed(
            seed, lasts, lambda gone=gone: world.work.exists() and world.work.rename(gone)
        ) as disturbance:
            try:
                assert same_bits(world.shards(route), truth), seed
            except EngineError as error:
                print(f"seed {seed}: {error}")
                assert not list(world.out.glob("part-*"))
        hits += disturbance.in_time
        assert world.left() == [], seed
        shutil.rmtree(gone, ignore_errors=True)

    assert hits >= 3  # else nothing was tested
