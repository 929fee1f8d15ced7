"""The online benchmark's judgement: what is equal, what is wrong, what takes no ratio. Its servers are not started here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks.online.answers import cells_of_compact, cells_of_feast, differences, same_time
from benchmarks.online.changing import Ledger, row_of, value_of
from benchmarks.online.comparing import hard_rows, serving_rows, versus
from benchmarks.online.hard import KINDS, make_hard, same_cell
from benchmarks.online.limits import rate_of_csv
from benchmarks.online.load import Load, load_of_text
from benchmarks.online.materialising import compare_written
from benchmarks.online.prepared import Written
from benchmarks.online.process import cpu_seconds
from benchmarks.online.repository import Repository, make_repository
from benchmarks.online.serving import COMPACT, FEASTS, Driven, Figures
from benchmarks.online.soak import Told, soak_rows
from benchmarks.online.steady import CUT, REFUSED, SILENT, Steady, whole_answer
from benchmarks.online.watching import Seen, kind_of_error
from benchmarks.online.world import CASES, KEY, VIEWS, bodies, features_of, keys_asked, make_world

STEADY = Steady(700.0, 701.0, 60.0, 4.0, {"status 200": 42_000, "status 503": 9}, {})
FEAST_ANSWER = {
    "metadata": {"feature_names": ["b", "user_id", "a"]},
    "results": [
        {"values": [None, 2.5], "statuses": ["NULL_VALUE", "PRESENT"], "event_timestamps": ["2024-01-01T00:00:01Z"] * 2},
        {"values": [7, 8], "statuses": ["PRESENT", "PRESENT"], "event_timestamps": ["1970-01-01T00:00:00Z"] * 2},
        {"values": ["x", ""], "statuses": ["PRESENT", "PRESENT"], "event_timestamps": ["2024-01-01T00:00:01.000007Z"] * 2},
    ],
}  # fmt: skip


def driven(name, *, rate=1_000.0, equal=True, cpu=100.0):
    load = Load(int(rate), 1.0, 1_000 / rate, 3_000 / rate, 0, 0)
    figures = Figures(load, cpu, 10.0, 3_000, {"values": 0 if equal else 3})
    return Driven(name, {(route.path, case.name): figures for route in (FEASTS, COMPACT) for case in CASES})


def test_the_truth_is_the_latest_row_of_every_entity_in_the_files(tmp_path: Path) -> None:
    world = make_world(tmp_path, 50)
    case = CASES[-1]
    found = world.truth(case, list(range(50)))
    assert set(found) == {KEY, *case.features}
    for view in VIEWS:
        rows = pd.read_parquet(tmp_path / f"{view}.parquet")
        assert len(rows) == 100
        assert rows.event_timestamp.nunique() == 100
        latest = rows.sort_values("event_timestamp").groupby(KEY).last()
        times = latest.event_timestamp.astype("datetime64[us, UTC]").astype(np.int64)
        for name in features_of(view):
            assert found[name] == [
                (value, "PRESENT", us) for value, us in zip(latest[name], times, strict=True)
            ]
    assert make_world(tmp_path, 50).truth(case, [3]) == {name: cells[3:4] for name, cells in found.items()}


def test_both_servers_are_asked_for_the_same_keys(tmp_path: Path) -> None:
    case = CASES[2]
    asked = keys_asked(case, 1_000, 20)
    assert asked == keys_asked(case, 1_000, 20)
    feasts = [json.loads(body)["entities"][KEY] for body in bodies(case, asked)]
    compact = [
        [row[KEY] for row in json.loads(body)["entities"]] for body in bodies(case, asked, compact=True)
    ]
    assert feasts == compact == asked


def test_answers_are_compared_by_name_whatever_the_order_of_columns() -> None:
    found = cells_of_feast(json.dumps(FEAST_ANSWER).encode())
    assert found["b"] == [
        (None, "NULL_VALUE", 1_704_067_201_000_000),
        (2.5, "PRESENT", 1_704_067_201_000_000),
    ]
    assert found["user_id"] == [(7, "PRESENT", None), (8, "PRESENT", None)]
    turned = {
        "metadata": {"feature_names": {"val": FEAST_ANSWER["metadata"]["feature_names"][::-1]}},
        "results": FEAST_ANSWER["results"][::-1],
    }
    assert not any(differences(found, cells_of_feast(json.dumps(turned).encode())).values())


def test_every_kind_of_difference_is_counted() -> None:
    truth = {
        "a": [(1.5, "PRESENT", 5_000_001), (2.0, "PRESENT", 6_000_001)],
        "b": [(None, "NULL_VALUE", None)],
    }
    wrong = {"a": [(1.5, "NOT_FOUND", 5_000_002), (2, "PRESENT", 6_000_001)], "b": [], "c": []}
    assert differences(wrong, truth) == {"columns": 1, "rows": 1, "values": 1, "statuses": 1, "times": 1}
    assert not any(differences(truth, truth).values())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (5_000_001, 5_000_001, True),
        (5_000_001, 5_000_002, False),
        (5_000_000, 5_999_999, True),
        (5_000_000, 6_000_000, False),
        (None, None, True),
        (None, 5, False),
    ],
)
def test_times_are_the_same_at_the_coarser_precision_of_the_two(one, other, same) -> None:
    assert same_time(one, other) is same


def test_a_compact_answer_is_read_with_and_without_times() -> None:
    told = {"features": {"a": [1, None]}, "statuses": {"a": ["PRESENT", "NOT_FOUND"]}}
    assert cells_of_compact(json.dumps(told).encode()) == {
        "a": [(1, "PRESENT", None), (None, "NOT_FOUND", None)]
    }
    told["statuses"] = {"a": "PRESENT"}
    assert cells_of_compact(json.dumps(told).encode())["a"] == [(1, "PRESENT", None), (None, "PRESENT", None)]
    told["event_timestamps"] = {"a": ["2024-01-01T00:00:00.000001Z", None]}
    assert cells_of_compact(json.dumps(told).encode())["a"][0][2] == 1_704_067_200_000_001


def test_hard_data_knows_each_cell_and_counts_wrong_ones_by_kind(tmp_path: Path) -> None:
    hard = make_hard(tmp_path)
    rows = pd.read_parquet(tmp_path / "hard.parquet", dtype_backend="pyarrow").set_index("code")
    said = dict.fromkeys(KINDS, 0)
    for key, cells in hard.cells.items():
        for name, (value, status, kind) in cells.items():
            said[kind] += 1
            if status == "PRESENT":
                assert same_cell((rows.loc[key, name], status), (value, status))
    assert all(said.values()), said
    counted = dict.fromkeys(KINDS, 0)
    for keys in hard.asked():
        right = {name: [hard.cells[key][name][:2] for key in keys] for name in ("price", "label", "count")}
        assert not any(hard.wrong(keys, right).values())
        assert hard.wrong(keys, {})  # an answer that does not come is lost whole
        for kind, count in hard.wrong(keys, {}).items():
            counted[kind] += count
    assert counted == said


@pytest.mark.parametrize(
    ("found", "truth", "same"),
    [
        ((math.nan, "PRESENT"), (math.nan, "PRESENT"), True),
        (("NaN", "PRESENT"), (math.nan, "PRESENT"), True),
        (("-Infinity", "PRESENT"), (-math.inf, "PRESENT"), True),
        ((0.0, "PRESENT"), (-0.0, "PRESENT"), False),
        ((9007199254740992, "PRESENT"), (9007199254740993, "PRESENT"), False),
        (("9007199254740993", "PRESENT"), (9007199254740993, "PRESENT"), True),
        ((None, "PRESENT"), (None, "NULL_VALUE"), False),
        ((1, "PRESENT"), (True, "PRESENT"), False),
    ],
)
def test_a_cell_is_right_only_with_its_value_and_its_status(found, truth, same) -> None:
    assert same_cell(found, truth) is same


def test_what_wrk_tells_is_read_and_refused_answers_are_no_requests() -> None:
    told = '{"requests": 900, "us": 3000000, "p50": 1500, "p99": 9000, "max": 9500, '
    told += '"status": 300, "connect": 1, "read": 2, "write": 3, "timeout": 4}'
    found = load_of_text(f"Running 3s test\nRESULT {told}\n")
    assert found == Load(900, 3.0, 1.5, 9.0, 300, 10)
    assert found.rate == 200
    with pytest.raises(RuntimeError, match="no result"):
        load_of_text("unable to connect")


def test_what_redis_benchmark_tells_is_read() -> None:
    told = '"test","rps","avg_latency_ms"\n"HMGET k:__rand_int__ v0 v1","160256.41","4.1"\n'
    assert rate_of_csv(told) == 160256.41


def test_unequal_answers_take_no_ratio_and_reach_no_goal() -> None:
    ours, same, other = (
        driven("ours", rate=50_000),
        driven("feast serve"),
        driven("feast serve, lasting", equal=False),
    )
    rows = serving_rows(ours, ours, [same, other], CASES)
    rated = {(row.case, row.peer): row for row in rows if row.metric == "requests/s"}
    assert (rated["1 x 10", "feast serve"].ratio, rated["1 x 10", "feast serve"].holds) == (50.0, True)
    assert rated["100 x 50 on Feast's layout", "feast serve"].goal == 18
    unequal = rated["1 x 10", "feast serve, lasting"]
    assert (unequal.equal, unequal.ratio, unequal.holds) == (False, None, False)
    assert unequal.note == "feast serve, lasting differs: {'values': 3}"


def test_goals_are_for_one_process_against_one_worker_and_what_is_missing_says_why() -> None:
    absent = Driven("ours", failures={"start": "not there: no backend"})
    rows = serving_rows(absent, None, [driven("feast serve"), driven("feast serve, tuned")], CASES)
    goals = {row.peer for row in rows if row.goal is not None}
    assert goals == {"feast serve"}
    assert {row.note for row in rows} == {"ours: not there: no backend"}
    assert not any(row.holds for row in rows)


def test_wrong_values_of_ours_on_hard_data_are_counted_beside_those_of_the_peer() -> None:
    ours, peer = (
        Driven("ours", wrong=dict.fromkeys(KINDS, 0)),
        Driven("feast serve", wrong=dict.fromkeys(KINDS, 4)),
    )
    assert {(row.ours, row.peer_value) for row in hard_rows(ours, [peer])} == {(0.0, 4.0)}
    assert hard_rows(ours, [Driven("feast serve", failures={"start": "port taken"})]) == []


def test_a_bound_from_below_is_reached_by_less() -> None:
    assert versus("case", "us", 120.0, "empty", 30.0, goal=1 / 5).holds
    assert not versus("case", "us", 160.0, "empty", 30.0, goal=1 / 5).holds


def test_a_materialisation_that_wrote_something_else_takes_no_ratio(tmp_path: Path) -> None:
    repository = Repository("ours", "redis", tmp_path)
    theirs = Written(repository, 40.0, before=100 << 20, peak=500 << 20, stored=9 << 20)
    ours = Written(repository, 0.5, before=100 << 20, peak=150 << 20, stored=8 << 20)
    rows = {row.metric: row for row in compare_written("redis", 1_000, ours, theirs, large=True)}
    assert (rows["entity rows/s"].ours, rows["entity rows/s"].ratio) == (10_000, 80)
    assert (rows["memory above the start's, MiB"].ratio, rows["peak memory, MiB"].holds) == (8, False)
    assert rows["Redis' memory, MiB"].holds
    wrong = Written(repository, 0.5, before=1, peak=2, stored=3, differing=1)
    assert {(row.ratio, row.holds or False) for row in compare_written("redis", 1_000, wrong, theirs)} == {
        (None, False)
    }
    (missing,) = compare_written("redis", 1_000, Written(repository, failure="not there: x"), theirs)
    assert (missing.ratio, missing.note) == (None, "ours: not there: x")


def test_repositories_differ_only_in_whose_classes_they_name(tmp_path: Path) -> None:
    one = make_repository(tmp_path, "feast", "redis", "7000")
    front = make_repository(tmp_path, "front", "redis", "7000", registry=one.repo / "registry.db")
    configs = [yaml.safe_load((each.repo / "feature_store.yaml").read_text()) for each in (one, front)]
    assert configs[0]["online_store"] == configs[1]["online_store"]
    assert configs[0]["registry"] == configs[1]["registry"]
    ours = make_repository(tmp_path, "ours", "postgres", "/tmp/socket/ours")
    config = yaml.safe_load((ours.repo / "feature_store.yaml").read_text())
    assert config["online_store"]["type"].startswith("mlflow_core.")
    assert (ours.root / "mlcore.toml").exists()


def test_cpu_time_is_that_of_a_process_and_of_what_it_started() -> None:
    burn = "sum(i * i for i in range(3_000_000))"
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{burn}']); input()"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while cpu_seconds(process.pid) < 0.1 and time.monotonic() < deadline:
            time.sleep(0.02)
        spent = cpu_seconds(process.pid)
        process.communicate(b"\n")
    assert spent >= 0.1
    assert cpu_seconds(process.pid) == 0


def test_an_answer_is_wrong_if_it_is_stale_unsent_or_of_two_versions() -> None:
    ledger = Ledger(4)
    first = ledger.next([1, 2])
    ledger.acknowledge(first)
    assert first == [row_of(1, 1), row_of(2, 1)]

    def cells(*rows):
        return {name: [(row[name], "PRESENT", None) for row in rows] for name in rows[0]}

    floor = ledger.floor([1, 2])
    assert floor == [1, 1]
    assert ledger.wrong([1, 2], floor, cells(row_of(1, 1), row_of(2, 1))) == 0
    assert (
        ledger.wrong([1, 2], floor, cells(row_of(1, 0), row_of(2, 1))) == 1
    )  # an acknowledged write is not there
    assert ledger.wrong([1, 2], floor, cells(row_of(1, 1), row_of(2, 2))) == 1  # never sent
    ledger.next([2])
    assert (
        ledger.wrong([1, 2], floor, cells(row_of(1, 1), row_of(2, 2))) == 0
    )  # sent, perhaps not acknowledged
    mixed = row_of(1, 1) | {"text": value_of(1, 0, "text")}
    assert ledger.wrong([1], [1], cells(mixed)) == 1
    assert ledger.wrong([1], [1], cells({KEY: 1, "version": None, "number": None, "text": None})) == 1
    assert ledger.wrong([1], [1], cells({KEY: 1, "version": 1})) == 1  # a feature is missing


def test_a_soak_counts_what_nothing_explains() -> None:
    seen, told = (
        Seen(answers=10, pushed=3),
        Told(at={"killed worker": 100.0}, recovered={"killed worker": 1.5}),
    )
    seen.when = {CUT: [101.0], REFUSED: [50.0]}
    seen.failures["read: connection cut"] = 1
    rows = {row.metric: row for row in soak_rows(seen, told, STEADY, STEADY, 0)}
    assert rows["failures that nothing explains"].equal
    assert rows["checker, read: connection cut"].ours == 1
    assert rows["load, status 503"].ours == 9
    seen.when = {CUT: [99.0, 106.0], SILENT: [101.0]}
    rows = {row.metric: row for row in soak_rows(seen, told, STEADY, STEADY, 2)}
    assert (rows["failures that nothing explains"].ours, rows["failures that nothing explains"].equal) == (
        3.0,
        False,
    )
    assert rows["lost writes"].equal is False
    rows = {row.metric: row for row in soak_rows(seen, told, replace(STEADY, offered=486.0), STEADY, 0)}
    assert (rows["requests/s sent"].ratio, rows["requests/s sent"].holds) == (0.69, False)


def test_errors_of_connections_are_told_apart() -> None:
    assert kind_of_error(ConnectionRefusedError()) == REFUSED
    assert kind_of_error(ConnectionResetError()) == CUT
    assert kind_of_error(TimeoutError()) == SILENT


@pytest.mark.parametrize(
    ("received", "found"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", ("200", True)),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", ("503", False)),
    ],
)
def test_an_answer_counts_when_it_is_whole(received, found) -> None:
    assert whole_answer(received) == found
