"""Commands that only look at what is recorded load neither an engine nor a library of data: they answer at once."""

from __future__ import annotations

import orjson
import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import Principal, SystemClock, load_settings
from mlflow_core.metadata import MetadataStore
from tests.cli.test_command import HEAVY
from tests.fresh import fresh

NOT_NEEDED = (
    *(name for name in HEAVY if name != "sqlalchemy"),
    "alembic",
    "croniter",
    "optuna",
    "sklearn",
    "torch",
    "matplotlib",
)
ALONE = (
    "config show --origin",
    "runs list",
    "runs list late --limit 3",
    "runs show latest",
    "runs why latest",
    "runs logs latest",
    "runs compare {first} latest",
    "runs compare {first} latest --all",
    "runs cancel {open}",
    "models list",
    "models show late@champion",
    "models history late",
    "models promote late:1 --to candidate",
    "models alias late champion 1",
    "tokens create ops",
    "tokens list",
    "tokens revoke 1 --force",
    "audit log",
    "audit verify",
    "db check",
    "db upgrade",
    "db backup copy.db",
    "db restore copy.db --yes",
    "cache list",
    "gc",
)
"""Words of commands whose answers are in the metadata database and the artifact store."""

WITH_ARROW = ("schedule list", "schedule next late --count 1", "schedule pause late")
"""Those that also read declarations that are kept there, whose conditions name sources."""


@pytest.fixture
def recorded(tmp_path):
    """A project without any declarations, and two runs in its records, as far as commands look at them."""
    (tmp_path / "mlcore.toml").write_text('[project]\nname = "recorded"\n[cache]\nlocation = "layouts"\n')
    settings = load_settings(tmp_path)
    artifacts = ArtifactStore(settings.artifact_location())
    ids = {}
    with MetadataStore(
        settings.metadata_url(), SystemClock(), Principal("ops", "option"), project="recorded"
    ) as store:
        ids["open"] = store.create_run("early").id
        for depth in (3, 4):
            run = store.create_run("late", seed=depth, code={"specs": {"view speed": f"sha256:{depth}"}})
            dataset = kept_dataset(store, artifacts, tmp_path, depth)
            parts = {"params": {"depth": depth}, "features": {"view speed": f"sha256:{depth}"}}
            step = store.start_step(run.id, "dataset", cache_key=f"sha256:k{depth}", cache_parts=parts)
            store.finish_step(step.id, output_digest=dataset.artifact_digest)
            store.use_dataset(run.id, dataset.id)
            store.log_params(run.id, {"depth": depth})
            store.log_metrics(run.id, {"test.auc": 0.7})
            for name in ("log", "environment"):
                kept = artifacts.put_bytes(b'{"message": "ready"}\n', name=name)
                store.log_artifact(run.id, name, kept.uri, kept.digest, kept.size)
            store.finish_run(run.id, "succeeded")
            ids.setdefault("first", run.id)
        model = artifacts.put_bytes(b"a model", name="model")
        store.register_model_version(
            "late", ids["first"], model.digest, {"auc": 0.7}, alias="champion", why="it is the first"
        )
        store.put_schedule("late", pipeline="late", cron="0 6 * * *", next_us=SystemClock().now_us())
    return tmp_path, ids


def kept_dataset(store, artifacts, folder, depth):
    """A training set of nothing but its manifest."""
    drafted = folder / f"draft-{depth}"
    drafted.mkdir()
    fingerprints = {"view speed": f"sha256:{depth}"}
    (drafted / "dataset.json").write_bytes(orjson.dumps({"fingerprints": fingerprints, "depth": depth}))
    kept = artifacts.put_tree(drafted, name="late")
    return store.register_dataset(
        "late", kept.digest, schema={"depth": "int64"}, rows={"train": depth}, clock="served",
        artifact_digest=kept.digest, uri=kept.uri,
    )  # fmt: skip


def test_what_is_recorded_is_shown_without_libraries_that_compute(recorded):
    root, ids = recorded
    arrow = {"numpy", "pyarrow", "croniter"}
    commands = [(words.format(**ids), NOT_NEEDED) for words in ALONE]
    commands += [(words, [name for name in NOT_NEEDED if name not in arrow]) for words in WITH_ARROW]
    code = (
        "import io, sys\n"
        "from contextlib import redirect_stderr, redirect_stdout\n"
        "from mlflow_core.cli.boundary import run\n"
        f"for words, forbidden in {commands!r}:\n"
        "    out, err = io.StringIO(), io.StringIO()\n"
        "    with redirect_stdout(out), redirect_stderr(err):\n"
        f"        code = run(['--root', {str(root)!r}, *words.split()])\n"
        "    assert code == 0, f'mlcore {words}: {code} {err.getvalue()}'\n"
        "    assert out.getvalue().strip(), f'mlcore {words} says nothing'\n"
        "    heavy = sorted(set(forbidden) & set(sys.modules))\n"
        "    assert not heavy, f'mlcore {words} imports {heavy}'\n"
    )

    answer = fresh(code, root)

    assert answer.returncode == 0, answer.stderr


def test_the_libraries_that_are_not_needed_are_there_to_be_loaded():
    """A library that has another name now, or is no more used, would be looked for in vain."""
    from importlib.util import find_spec

    assert [name for name in HEAVY if find_spec(name) is None] == []
