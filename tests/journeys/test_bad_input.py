"""Everything that can be wrong with what a user has: one clear message, a defined exit code, nothing damaged.

Each case goes through the command. Declarations that do not load or fit are in ``test_apply``; here are the cases
that need a whole project: its data, its pipeline, its model, its databases and its disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.sqlite import SqliteBackend

YAML = """project: shop
provider: local
registry:
  registry_type: sql
  path: sqlite:///data/registry.db
  sqlalchemy_config_kwargs: {connect_args: {timeout: 0.2}}
offline_store: {type: mlflow_core.feast.offline_store.DaskOfflineStore}
online_store: {type: mlflow_core.feast.online_store.PackedOnlineStore, path: data/online.db}
batch_engine: {type: mlflow_core.feast.compute_engine.DaskComputeEngine}
entity_key_serialization_version: 3
"""
SPECS = """import mlflow_core as ml

customer = ml.Entity("customer")
orders = ml.ParquetSource("orders", path="orders.parquet", event_time="placed")
spending = ml.FeatureView(
    "spending", entity=customer, source=orders, availability=ml.Every("1h"),
    features=["amount", ml.Agg("amount", "mean", over="7d")],
)
offers = ml.FeatureService("offers", [spending])
"""
PIPELINE = """import mlflow_core as ml
from feature_repo.specs import offers, orders

large = ml.TrainingPipeline(
    "large",
    data=ml.Dataset(
        features=offers,
        spine=ml.Spine(orders, at="placed - INTERVAL '1 minute'"),
        label=ml.Label("amount > 100"),
        clock="served",
        split=ml.TimeSplit(train_until="2024-01-15", validate_until="2024-01-20"),
    ),
    trainer=ml.XGBoost(rounds=3, early_stopping=2),
)
"""
SEED = 7
AT = "2024-01-25T00:05Z"
MATERIALIZE = ("materialize", "--to", "2024-01-25T00:00Z", "--clock", AT)
GET = ("features", "get", "offers", "--at", AT)
BUILD = ("dataset", "build", "large")
TRAIN = ("train", "large", "--in-process")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The error, which is one line; progress may come before it."""
        told = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(told) == 1, self.err
        assert "Traceback" not in self.err
        assert "unexpected" not in told[0]
        return told[0]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return made(tmp_path / "shop")


def made(root: Path, table: pa.Table | None = None) -> Path:
    repo = root / "feature_repo"
    repo.mkdir(parents=True)
    (root / "pipelines").mkdir()
    (root / "mlcore.toml").write_text("")
    (repo / "feature_store.yaml").write_text(YAML)
    (repo / "specs.py").write_text(SPECS)
    (root / "pipelines" / "large.py").write_text(PIPELINE)
    pq.write_table(orders() if table is None else table, repo / "orders.parquet")
    return root


def orders(rows: int = 300) -> pa.Table:
    chance = np.random.default_rng(SEED)
    start = 1_704_067_200_000_000  # 2024-01-01
    times = start + np.sort(chance.integers(0, 26 * 86_400, rows)) * 1_000_000
    return pa.table(
        {
            "customer": [f"c{number}" for number in chance.integers(0, 10, rows)],
            "amount": chance.uniform(0, 200, rows),
            "placed": pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )


def mlcore(root: Path, *words: str) -> Answer:
    out, err = StringIO(), StringIO()
    with contextlib.chdir(root), redirect_stdout(out), redirect_stderr(err):
        code = run(words)
    return Answer(int(code), out.getvalue(), err.getvalue())


def put(root: Path, table: pa.Table) -> None:
    pq.write_table(table, root / "feature_repo" / "orders.parquet")


def rewrite(root: Path, file: str, before: str, after: str) -> None:
    text = (root / file).read_text()
    assert before in text
    (root / file).write_text(text.replace(before, after))


def kept(root: Path) -> dict[str, str]:
    """Every file's digest, but for SQLite's memory of who reads and what is not yet in the file."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix not in (".db-shm", ".db-wal"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


SECOND = """other = ml.FeatureView("spending", entity=customer, source=orders, features=["amount"])
offers = """
REFUSED = {
    "a circle of imports": ("feature_repo/specs.py", "import mlflow_core", "import feature_repo.more\nimport mlflow_core", 2, "circle"),
    "two objects of one name": ("feature_repo/specs.py", "offers = ", SECOND, 2, "declared twice"),
    "an unknown column of a label": ("pipelines/large.py", "amount > 100", "amuont > 100", 2, 'Did you mean "amount"?'),
    "an unknown entity": ("feature_repo/specs.py", "entity=customer", "entity=custmer", 2, 'Did you mean "customer"?'),
    "an unknown view": ("feature_repo/specs.py", "[spending])", "[spendin])", 2, 'Did you mean "spending"?'),
    "an unknown service of a pipeline": ("pipelines/large.py", "import offers", "import ofers", 2, 'Did you mean "offers"?'),
    "a window without a unit": ("feature_repo/specs.py", 'over="7d"', "over=7", 2, '"7s", "7m" or "7h"'),
    "a missing key column": ("feature_repo/specs.py", 'Entity("customer")', 'Entity("custmer")', 2, 'Did you mean "customer"?'),
    "a missing file": ("feature_repo/specs.py", "orders.parquet", "odrers.parquet", 1, 'no file or folder "odrers.parquet"'),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_load_or_fit_is_told_and_the_registry_stays(shop: Path, what: str) -> None:
    file, before, after, code, told = REFUSED[what]
    assert mlcore(shop, "apply").code == 0
    (shop / "feature_repo" / "more.py").write_text(
        "import feature_repo.specs\n" if "circle" in what else "more = 1\n"
    )
    rewrite(shop, file, before, after)
    files = kept(shop)

    answer = mlcore(shop, "apply")

    assert (answer.code, answer.out) == (code, "")
    assert told in answer.message
    assert file.rpartition("/")[2] in answer.message
    assert kept(shop) == files


@pytest.mark.parametrize("verb", [BUILD, TRAIN, MATERIALIZE])
@pytest.mark.parametrize("what", ["without a row", "missing", "cut off"])
def test_a_source_that_cannot_be_used_is_named(shop: Path, what: str, verb: tuple[str, ...]) -> None:
    assert mlcore(shop, "apply").code == 0
    file = shop / "feature_repo" / "orders.parquet"
    if what == "without a row":
        put(shop, orders().slice(0, 0))
    elif what == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000])
    registry = kept(shop / "feature_repo")

    answer = mlcore(shop, *verb)

    assert answer.code == 1
    assert 'ParquetSource "orders"' in answer.message
    assert Path(__file__).name not in answer.message, "a place in a file that declares nothing"
    after = kept(shop / "feature_repo")
    online = str(shop / "feature_repo" / "data" / "online.db")  # a run was noted there, and taken back
    assert {name: one for name, one in after.items() if name in registry and name != online} == {
        name: one for name, one in registry.items() if name != online
    }
    store = SqliteBackend(online, "shop")
    assert (store.unfinished(), list(store.keys(OnlineTable("spending", ("customer",))))) == ({}, [])
    store.close()


def test_rows_without_a_key_are_counted_and_a_request_without_one_is_told(shop: Path) -> None:
    table = orders()
    keys = [None if row % 3 == 0 else key for row, key in enumerate(table["customer"].to_pylist())]
    put(shop, table.set_column(0, "customer", pa.array(keys)))
    assert mlcore(shop, "apply").code == 0

    written = mlcore(shop, "--json", *MATERIALIZE)
    assert '"dropped_keys": 100' in written.out

    missing = mlcore(shop, *GET)
    assert missing.code == 2
    assert 'entity column "customer" is missing' in missing.message
    null = mlcore(shop, *GET, "customer=")
    assert (null.code, null.out.count("NOT_FOUND")) == (0, 2)
    unknown = mlcore(shop, "features", "get", "ofers", "customer=c1")
    assert unknown.code == 2
    assert 'Did you mean "offers"?' in unknown.message


@pytest.mark.parametrize("verb", [BUILD, TRAIN])
def test_a_label_without_a_positive_trains_nothing(shop: Path, verb: tuple[str, ...]) -> None:
    table = orders()
    put(shop, table.set_column(1, "amount", pa.array(np.ones(len(table)))))

    answer = mlcore(shop, *verb)

    assert answer.code == 1
    assert "is true in none of the" in answer.message
    assert mlcore(shop, "--json", "models", "list").out == "[]\n"
    assert mlcore(shop, "--json", "dataset", "show").out == "[]\n"


def test_a_model_whose_features_are_gone_is_not_asked(shop: Path) -> None:
    for words in (("apply",), TRAIN, MATERIALIZE):
        assert mlcore(shop, *words).code == 0
    ask = ("predict", "large", "--at", AT, "customer=c1")
    assert mlcore(shop, *ask).code == 0
    rewrite(shop, "feature_repo/specs.py", 'features=["amount", ', "features=[")
    assert mlcore(shop, "apply", "--yes").code == 0
    models = mlcore(shop, "--json", "models", "list").out

    answer = mlcore(shop, *ask)

    assert answer.code == 1
    assert 'feature "amount" is gone' in answer.message
    assert mlcore(shop, "--json", "models", "list").out == models


def test_a_locked_registry_keeps_what_it_holds(shop: Path) -> None:
    assert mlcore(shop, "apply").code == 0
    rewrite(shop, "feature_repo/specs.py", 'Every("1h")', 'Every("2h")')
    files = kept(shop)
    other = sqlite3.connect(shop / "feature_repo" / "data" / "registry.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    answer = mlcore(shop, "apply")

    other.close()
    assert answer.code == 1
    assert "is locked by another process" in answer.message
    assert kept(shop) == files


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)):
        pytest.skip("only root may mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*words: str) -> int:
    return subprocess.run(["mount", *words], check=False, capture_output=True).returncode


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            assert file.write(bytes(4096)) == 4096
    return filler


@pytest.mark.parametrize("verb", [("apply",), BUILD, TRAIN, MATERIALIZE], ids=lambda words: words[0])
def test_a_full_disk_leaves_what_was_there_and_the_next_try_works(disk: Path, verb: tuple[str, ...]) -> None:
    root = made(disk / "shop")
    assert mlcore(root, "apply").code == 0
    if verb == ("apply",):
        rewrite(root, "feature_repo/specs.py", 'Every("1h")', 'Every("2h")')
    filler = fill(disk)
    files = kept(root)

    answer = mlcore(root, *verb)

    assert answer.code == 1
    assert any(
        sign in answer.message for sign in ("no space left", "disk is full", "free space", "Look at the disk")
    )
    left = kept(root)
    assert {name: left.get(name) for name in files} == files
    filler.unlink()
    assert mlcore(root, *verb).code == 0


@pytest.mark.parametrize("verb", [("apply",), BUILD, TRAIN, MATERIALIZE], ids=lambda words: words[0])
def test_a_disk_that_may_only_be_read_is_told(disk: Path, verb: tuple[str, ...]) -> None:
    root = made(disk / "shop")
    assert mlcore(root, "apply").code == 0
    rewrite(root, "feature_repo/specs.py", "features=[", 'ttl="9d", features=[')
    view = disk.parent / "view"
    view.mkdir()
    files = kept(root)
    assert _mount("--bind", str(disk), str(view)) == 0
    try:
        assert _mount("-o", "remount,bind,ro", str(view)) == 0
        answer = mlcore(view / "shop", *verb)
    finally:
        subprocess.run(["umount", "-l", str(view)], check=True)

    assert answer.code == 1
    assert str(view) in answer.message
    assert kept(root) == files
