"""What is removed is what no record needs and what is old; everything else is read again afterwards."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import FixedClock, Principal
from mlflow_core.config.retention import RetentionSettings
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.errors import ArtifactError, MetadataError
from mlflow_core.metadata import MetadataStore
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.workflow.kept_trainings import KeptTrainings
from mlflow_core.workflow.retention import Removal, Stored, remove_old
from mlflow_core.workflow.sharing import claim

DAY = 86_400_000_000
NOW = 1_000 * DAY
ANA = Principal("ana")
RULES = RetentionSettings(artifacts="30d", datasets="60d", caches="30d", logs="30d", young="1d")


class Shop:
    """A project whose past is written day by day."""

    def __init__(self, folder: Path, project: str = "shop") -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/metadata.db"
        self.artifacts = ArtifactStore(str(folder / "artifacts"))
        self.project = project
        self.logs = folder / "logs"
        self.logs.mkdir(exist_ok=True)

    def at(self, days_ago: float) -> MetadataStore:
        return MetadataStore(self.url, FixedClock(int(NOW - days_ago * DAY)), ANA, project=self.project)

    def put(self, text: str, *, old: bool = True) -> str:
        digest = self.artifacts.put_bytes(text.encode()).digest
        if old:
            self.age(digest)
        return digest

    def put_folder(self, name: str, **files: str) -> str:
        source = self.folder / f"source-{name}"
        source.mkdir()
        for file, text in files.items():
            (source / file).write_text(text)
        tree = self.artifacts.put_tree(source)
        for digest in (tree.digest, *(file.digest for file in self.artifacts.files_of(tree.digest))):
            self.age(digest)
        return tree.digest

    def age(self, digest: str) -> None:
        path = self.artifacts.path(digest)
        long_ago = time.time() - 100 * 86_400
        os.utime(path, (long_ago, long_ago))

    def run(
        self,
        days_ago: float,
        *digests: str,
        pipeline: str = "late",
        state: str | None = "succeeded",
        step_output: str | None = None,
        dataset: int | None = None,
    ) -> str:
        with self.at(days_ago) as store:
            run = store.create_run(pipeline, dataset_id=dataset).id
            for number, digest in enumerate(digests):
                store.log_artifact(
                    run, name=f"file{number}", uri=digest, digest=digest, size=1, media_type="x"
                )
            step = store.start_step(run, "work")
            if state is not None:
                store.finish_step(step.id, output_digest=step_output)
                store.finish_run(run, state)
        return run

    def dataset(self, days_ago: float, digest: str, name: str = "late") -> int:
        with self.at(days_ago) as store:
            return store.register_dataset(
                name, digest, schema={}, rows={"train": 1}, clock="event", artifact_digest=digest
            ).id

    def stored(self) -> Stored:
        return Stored(self.at(0), self.url, ANA, self.artifacts, Cache(self.folder / "cache"), (self.logs,))

    def gc(self, rules: RetentionSettings = RULES, *, really: bool = True) -> Removal:
        stored = self.stored()
        try:
            return remove_old(stored, rules, FixedClock(NOW), really=really)
        finally:
            stored.metadata.close()

    def has(self, *digests: str) -> list[bool]:
        return [self.artifacts.exists(digest) for digest in digests]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    return Shop(tmp_path)


def test_nothing_is_removed_unless_asked_for_and_it_says_what_would_be(shop: Shop) -> None:
    needed, lost = shop.put("needed"), shop.put("lost")
    shop.run(1, needed)

    said = shop.gc(really=False)

    assert (said.done, said.artifacts.deleted, said.bytes) == (False, (lost,), 4)
    assert shop.has(needed, lost) == [True, True]
    done = shop.gc()
    assert (done.done, done.artifacts.deleted, done.bytes) == (True, (lost,), 4)
    assert shop.has(needed, lost) == [True, False]
    with shop.at(0) as store:
        (row,) = [one for one in store.audit_entries(limit=1000) if one.action == "gc"]
        assert json.loads(row.details)["bytes"] == 4


def test_recent_running_and_last_good_runs_keep_what_they_left(shop: Shop) -> None:
    texts = ("recent", "running", "last good", "older", "output", "failed", "old failed", "other")
    kept = {text: shop.put(text) for text in texts}
    shop.run(90, kept["older"])
    shop.run(80, kept["last good"], step_output=kept["output"])
    shop.run(70, kept["old failed"], state="failed")
    shop.run(5, kept["failed"], state="crashed")
    shop.run(50, kept["running"], state=None)
    shop.run(2, kept["recent"], pipeline="early")
    shop.run(300, kept["other"], pipeline="never again")

    shop.gc()

    gone = {text for text, digest in kept.items() if not shop.artifacts.exists(digest)}
    assert gone == {"older", "old failed"}


def test_the_last_run_of_a_schedule_is_kept_whatever_came_of_it(shop: Shop) -> None:
    log, other = shop.put("what it said"), shop.put("other")
    shop.run(1, other)
    run = shop.run(200, log, state="failed", pipeline="nightly")
    with shop.at(200) as store:
        store.put_schedule("nightly", pipeline="nightly", cron="0 6 * * *")
        store.claim_schedule("nightly", "one", DAY)
        store.finish_schedule("nightly", "one", next_us=None, run_id=run, error="it failed")

    shop.gc()

    assert shop.has(log) == [True]


@pytest.mark.parametrize(("versions", "expected"), [("all", 5), (2, 3), (1, 2)])
def test_models_stay_that_an_alias_points_at_and_so_do_the_newest(
    shop: Shop, versions: str | int, expected: int
) -> None:
    models = [shop.put_folder(f"m{number}", model=f"model {number}") for number in range(5)]
    with shop.at(400) as store:
        for digest in models:
            store.register_model_version("late", None, digest)
        store.move_alias("late", "champion", 1, "a test")

    removal = shop.gc(RULES.model_copy(update={"versions": versions}))

    assert sum(shop.has(*models)) == expected
    assert shop.has(models[0], models[4]) == [True, True]
    assert removal.versions == 5 - expected
    shop.artifacts.verify(models[0])


def test_a_deployed_version_stays(shop: Shop) -> None:
    first, second = shop.put("first"), shop.put("second")
    with shop.at(400) as store:
        for digest in (first, second):
            store.register_model_version("late", None, digest)
        store.start_deployment("late", 1, "production", "a test")

    shop.gc(RULES.model_copy(update={"versions": 1}))

    assert shop.has(first, second) == [True, True]


def test_old_training_sets_go_unless_a_model_in_use_or_a_kept_run_was_made_with_them(shop: Shop) -> None:
    sets = {name: shop.put_folder(name, shard=f"rows of {name}") for name in ("used", "last", "old", "new")}
    ids = {name: shop.dataset(100 if name != "new" else 10, digest) for name, digest in sets.items()}
    shop.run(100, sets["old"], dataset=ids["old"])
    run = shop.run(100, sets["used"], dataset=ids["used"])
    shop.run(95, dataset=ids["last"])
    with shop.at(100) as store:
        store.register_model_version("late", run, shop.put("model"), alias="champion", why="a test")

    removal = shop.gc()

    assert shop.has(*sets.values()) == [True, True, False, True]
    assert [one.id for one in removal.datasets] == [ids["old"]]
    with shop.at(0) as store:
        gone = store.get_dataset(ids["old"])
        assert "older than 60d" in (gone.removed_why or "")
        assert store.get_dataset(ids["used"]).removed_us is None
    assert shop.gc().datasets == ()


def test_a_training_set_that_was_built_again_lately_stays_though_its_record_is_old(shop: Shop) -> None:
    rows = shop.put_folder("again", shard="rows")
    first = shop.dataset(100, rows)
    shop.run(1)
    shop.artifacts.put_tree(shop.folder / "source-again")
    assert shop.dataset(0, rows) == first, "the same rows are the same training set"

    assert shop.gc().datasets == ()
    assert shop.has(rows) == [True]
    with shop.at(0) as store:
        assert store.get_dataset(first).removed_us is None


def test_a_training_set_that_two_projects_share_goes_when_both_let_it_go(tmp_path: Path) -> None:
    shop, other = Shop(tmp_path), Shop(tmp_path, "other")
    shared = shop.put_folder("shared", shard="rows")
    shop.dataset(100, shared)
    other.dataset(10, shared)

    assert shop.gc().datasets == ()
    assert shop.has(shared) == [True]


def test_what_a_neighbour_in_the_database_needs_stays(tmp_path: Path) -> None:
    shop, other = Shop(tmp_path), Shop(tmp_path, "other")
    theirs = other.put("theirs")
    other.run(1, theirs)

    shop.gc()

    assert shop.has(theirs) == [True]


def test_a_store_of_which_the_database_knows_nothing_is_left_alone(shop: Shop) -> None:
    lost = shop.put("somebody else's")

    with pytest.raises(ArtifactError, match="none of which the metadata database needs"):
        shop.gc()

    assert shop.has(lost) == [True]


def test_a_database_that_is_not_there_says_nothing_of_what_is_needed(shop: Shop) -> None:
    stored = shop.stored()
    other = Stored(stored.metadata, "sqlite:///:memory:", ANA, stored.artifacts, stored.cache, stored.logs)

    with pytest.raises(MetadataError, match="nobody can say what it needs"):
        remove_old(other, RULES, FixedClock(NOW), really=True)
    stored.metadata.close()


def test_for_ever_is_for_ever(shop: Shop) -> None:
    old = shop.put("an old run's")
    shop.run(900, old)
    shop.run(1)
    forever = RetentionSettings(artifacts="forever", datasets="forever", caches="forever", logs="forever")
    rows = shop.put_folder("rows", shard="x")
    shop.dataset(900, rows)

    removal = shop.gc(forever)

    assert (removal.artifacts.deleted, removal.datasets, removal.logs) == ((), (), ())
    assert shop.has(old, rows) == [True, True]


def test_old_logs_go_but_none_of_a_run_that_is_going_on(shop: Shop) -> None:
    shop.run(1)
    running = shop.run(50, state=None)
    paths = {name: shop.logs / f"{name}.jsonl" for name in ("old", "new", running)}
    for name, path in paths.items():
        path.write_text("said")
        if name != "new":
            os.utime(path, (time.time() - 40 * 86_400,) * 2)

    removal = shop.gc()

    assert [one.path.name for one in removal.logs] == ["old.jsonl"]
    assert {path.name for path in shop.logs.iterdir()} == {"new.jsonl", f"{running}.jsonl"}


def test_while_runs_write_nothing_of_theirs_is_lost(shop: Shop) -> None:
    """Four runs store and note small files, half of them old content stored again, while it is collected again and again."""
    old = [shop.put(f"old {number}") for number in range(40)]
    shop.run(1)
    for number in range(40):
        shop.put(f"lost {number}")
    failures: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            for number in range(10):
                digests = [
                    shop.put(f"new {worker} {number}", old=False),
                    shop.put(f"old {worker * 10 + number}", old=False),
                ]
                shop.run(0, *digests, pipeline=f"p{worker}")
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    keep = shop.put("keep")
    shop.run(1, keep)
    for one in writers:
        one.start()
    while any(one.is_alive() for one in writers):
        shop.gc()
    for one in writers:
        one.join()
    shop.gc()

    assert failures == []
    written = [
        digest
        for worker in range(4)
        for number in range(10)
        for digest in (
            ArtifactStore("memory://same").put_bytes(f"new {worker} {number}".encode()).digest,
            old[worker * 10 + number],
        )
    ]
    assert all(shop.has(*written))
    for digest in written:
        shop.artifacts.verify(digest)


def test_a_store_that_another_database_uses_too_is_left_alone_until_that_one_is_gone(
    shop: Shop, tmp_path: Path
) -> None:
    lost, run = shop.put("lost"), shop.run(1, shop.put("needed"))
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other")
    other.artifacts = shop.artifacts
    with shop.at(0) as store:
        claim(store, shop.artifacts, run)
    second = Shop(tmp_path, project="second")
    with second.at(0) as store:
        claim(store, shop.artifacts, second.run(1))
    assert list(shop.artifacts.users.read()) == [run], "one database is one user, whatever its projects"
    assert shop.gc(really=False).artifacts.deleted == (lost,)

    theirs = other.run(1)
    with other.at(0) as store:
        claim(store, shop.artifacts, theirs)

    for one, told in ((shop, r"other/metadata\.db on .*users/"), (other, r"metadata\.db on .*users/")):
        for really in (False, True):
            with pytest.raises(ArtifactError, match=f"used by other metadata databases.*{told}"):
                one.gc(really=really)
    assert shop.has(lost) == [True]
    (Path(shop.artifacts.location) / "users" / theirs).unlink()
    assert shop.gc().artifacts.deleted == (lost,)


def test_checkpoints_of_trainings_that_never_went_on_go_and_none_of_a_run_that_is_going_on(
    shop: Shop,
) -> None:
    shop.run(1, shop.put("needed"))
    running, failed = shop.run(20, state=None), shop.run(20, state="failed")
    folder = Path(shop.artifacts.location) / "trainings"
    for name, run in (
        ("abandoned-0", failed),
        ("unknown-0", "nobody"),
        ("going-0", running),
        ("young-0", failed),
    ):
        kept = KeptTrainings(shop.artifacts, lambda _: False)
        assert kept.take(name, run)
        Checkpoints(kept.address(name), "mine").write(50, {"model": b"x" * 1000}, {})
        if name != "young-0":
            for path in (folder / name).iterdir():
                os.utime(path, (time.time() - 15 * 86_400,) * 2)

    said = shop.gc(really=False)
    assert [one.name for one in said.trainings] == ["abandoned-0", "unknown-0"]
    assert said.bytes == sum(one.bytes for one in said.trainings) > 2000
    assert len(list(folder.iterdir())) == 4
    done = shop.gc()

    assert done.trainings == said.trainings
    assert sorted(path.name for path in folder.iterdir()) == ["going-0", "young-0"]
    assert shop.gc().trainings == ()
    assert done.artifacts.deleted == ()
