"""What a team does with a project, command by command: each verb is called at least once, in an order that works."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_core.cli.boundary import run

SILENT = {"serve": "answers over HTTP until it is told to stop"}
"""Commands that print no document, and why."""

AT = ("--at", "2024-04-20T00:30Z")


_READING = (
    " show", " list", " log", " logs", " lineage", " history", " compare", " diff", " diff-data", " get", " erasures",
    " why", " next", " look", " status",
)  # fmt: skip


@dataclass(frozen=True)
class Chapter:
    """One call.

    Attributes:
        words: What is typed; ``{name}`` stands for what an earlier call was asked to keep.
        codes: The exit codes that are right.
        keep: Under which name a field of the answer is kept.
        field: Which one.
        then: What is done to the project afterwards.
        apart: Whether it is called in a process of its own, because it leaves one behind.
        text: Whether it is called without ``--json``, for what it prints to people; what only reads is called both ways.
    """

    words: tuple[str, ...]
    codes: tuple[int, ...] = (0,)
    keep: str | None = None
    field: str = ""
    then: Callable[[Path], object] | None = None
    text: bool = False
    apart: bool = False

    @property
    def command(self) -> str:
        """The verb, without its arguments."""
        alone = (
            "init",
            "doctor",
            "plan",
            "apply",
            "train",
            "tune",
            "materialize",
            "predict",
            "completion",
            "gc",
            "scheduler",
        )
        return " ".join(self.words[: 1 if self.words[0] in alone else 2])

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, so that it can be called again."""
        return self.command in (
            "doctor",
            "plan",
            "predict",
            "db check",
            "audit verify",
        ) or self.command.endswith(_READING)


def called(words: str, **more) -> Chapter:
    return Chapter(tuple(words.split()), **more)


def a_schedule(root: Path) -> None:
    """The pipeline starts by itself, on one day of the year."""
    pipeline = root / "pipelines" / "late_parcel.py"
    line = '    schedule=ml.Schedule("0 6 29 2 *"),\n'
    pipeline.write_text(pipeline.read_text().replace("    register=", line + "    register="))


def a_condition(root: Path) -> None:
    """The pipeline starts by itself where its features drift farther than they ever will."""
    pipeline = root / "pipelines" / "late_parcel.py"
    text = pipeline.read_text()
    pipeline.write_text(text.replace('ml.Schedule("0 6 29 2 *")', "ml.Schedule(when=ml.Drifted(by=50.0))"))


def another_seed_and_depth(root: Path) -> None:
    """Other data, another declaration: the next run differs from the last in both."""
    pipeline = root / "pipelines" / "late_parcel.py"
    pipeline.write_text(pipeline.read_text().replace("max_depth=3", "max_depth=4"))
    parcels, late = root / "parcels.parquet", 3600 * 10**6

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(parcels)
    column = table.schema.get_field_index("sent")
    moved = pc.add(table["sent"], pa.scalar(late, pa.duration("us"))).cast(table["sent"].type)
    pq.write_table(table.set_column(column, "sent", moved), parcels)


SEARCH = '    search=ml.Search(trials=4, space={"max_depth": ml.Int(1, 6)}, pruner=None),\n'


def a_search(root: Path) -> None:
    """The pipeline looks for a better depth."""
    pipeline = root / "pipelines" / "late_parcel.py"
    pipeline.write_text(pipeline.read_text().replace("    register=", SEARCH + "    register="))


def no_search(root: Path) -> None:
    """The pipeline is as it was."""
    pipeline = root / "pipelines" / "late_parcel.py"
    pipeline.write_text(pipeline.read_text().replace(SEARCH, ""))


_THEIRS = """
from mlflow import MlflowClient

client = MlflowClient("sqlite:///.mlcore/mlflow.db")
run = client.create_run(client.create_experiment("before"), tags={"team": "ops"})
client.log_metric(run.info.run_id, "loss", 0.5)
client.set_terminated(run.info.run_id)
client.create_run(run.info.experiment_id)
"""


def a_tracking_store(root: Path) -> None:
    """The project names a store of MLflow's, an SQLite file, for its copies."""
    (root / "env").mkdir(exist_ok=True)
    (root / "env" / "mirrored.toml").write_text(
        '[mlflow]\ntracking_uri = "sqlite:///.mlcore/mlflow.db"\nmodels = true\nwithin = "3m"\n'
    )


def runs_of_their_own(root: Path) -> None:
    """Somebody else has recorded a run in that store, and another one is going on."""
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", _THEIRS], cwd=root, env=environment, check=True, timeout=120)


def a_run_whose_driver_is_gone(root: Path) -> None:
    """The same run once more, as far as a driver comes that is killed at once."""
    from mlflow_core.config import Principal, SystemClock
    from mlflow_core.metadata import MetadataStore

    url = f"sqlite:///{root / '.mlcore' / 'metadata.db'}"
    with MetadataStore(url, SystemClock(), Principal("ops", "option"), project="parcels") as store:
        last = next(run for run in store.list_runs(pipeline="late_parcel") if run.code.get("specs"))
        store.create_run(
            last.pipeline, pipeline_fingerprint=last.pipeline_fingerprint, seed=last.seed, code=last.code,
            environment=last.environment,
        )  # fmt: skip


STORY = (
    called("init {root}", then=a_schedule),
    called("doctor"),
    called("config show"),
    called("config show --origin"),
    called("db check"),
    called("db upgrade"),
    called("plan", codes=(4,)),
    called("apply"),
    called("features list"),
    called("features show depot_speed"),
    called("features show speed"),
    called("features show hours_mean_2d"),
    called("features lineage parcels"),
    called("dataset build late_parcel --explain"),
    called("dataset build late_parcel"),
    called("dataset build late_parcel --clock event"),
    called("dataset show"),
    called("dataset show late_parcel"),
    called("dataset diff 1 2"),
    called("dataset diff 1 1 --all"),
    called("dataset export late_parcel --to {new}/exported"),
    called("train late_parcel --in-process --profile", keep="run", field="run", then=another_seed_and_depth),
    called("train late_parcel --in-process --profile", text=True),
    called("runs list"),
    called("runs list late_parcel --state succeeded --param trainer.max_depth=3 --limit 5 --offset 0"),
    called("runs list --metric test.auc>0 --metric test.log_loss<9 --order-by test.auc --ascending"),
    called("runs show latest"),
    called("runs logs latest"),
    called("runs logs {run} --step train"),
    called("runs compare {run} latest"),
    called("runs compare {run} latest --all"),
    called("runs diff-data {run} latest"),
    called("runs why latest"),
    called("runs reproduce latest --in-process", then=a_run_whose_driver_is_gone),
    called("runs cancel latest"),
    called("runs resume latest --in-process", then=a_search),
    called("tune late_parcel --in-process --trials 3", text=True),
    called("tune late_parcel --in-process --trials 4 --timeout 10m", then=no_search),
    called("models list", then=a_tracking_store),
    called("runs mirror latest --env mirrored", then=runs_of_their_own),
    called("runs mirror --all --env mirrored", text=True),
    called("runs import --from sqlite:///{root}/.mlcore/mlflow.db"),
    called("models show late_parcel@champion"),
    called("models promote late_parcel:1 --to candidate"),
    called("models alias late_parcel champion 1"),
    called("models history late_parcel"),
    called("models lineage late_parcel@champion"),
    called("models export late_parcel:1 --to {new}/native --format native"),
    called("models export late_parcel:1 --to {new}/onnx"),
    called("materialize --to 2024-04-20T00:00Z --clock 2024-04-20T00:05Z"),
    called(f"features get speed {' '.join(AT)} depot=north"),
    called(f"predict late_parcel {' '.join(AT)} depot=north"),
    called(f"predict late_parcel --features {' '.join(AT)} depot=north"),
    called("schedule list"),
    called("schedule next late_parcel --count 2"),
    called("schedule pause late_parcel --why mending"),
    called("schedule resume late_parcel"),
    called("schedule run late_parcel"),
    called("scheduler --once", then=a_condition),
    called("apply"),
    called("schedule look late_parcel"),
    called("schedule list"),
    called("cluster start --workers 1", apart=True),
    called("cluster status"),
    called("cluster scale 1"),
    called("cluster stop"),
    called("gc"),
    called("gc --yes"),
    called("cache list"),
    called("cache clean"),
    called("audit log --limit 3"),
    called("audit verify"),
    called("tokens create ops@example.org --expires 90d", keep="token", field="id"),
    called("tokens list"),
    called("tokens revoke {token} --force"),
    called("db backup {new}/metadata-of-monday.db"),
    called("db restore {new}/metadata-of-monday.db --yes"),
    called("completion bash"),
    called("features delete depot depot=north --yes"),
    called("features erasures"),
)


@dataclass
class Told:
    """What was printed: documents and texts (standard output and error) by command."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)


def call(*words: str) -> tuple[int, str, str]:
    """Run a command here; returns its exit code and what it printed, as a pipe gets it."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(list(words))
    return code, out.getvalue(), err.getvalue()


def call_apart(*words: str) -> tuple[int, str, str]:
    """Run a command in a process of its own."""
    typed = [sys.executable, "-m", "mlflow_core.cli", *words]
    done = subprocess.run(typed, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def tell(story: Sequence[Chapter], folder: Path) -> Told:
    """Call every command of a story in a folder; each has to end as the story says."""
    root, told = folder / "parcels", Told()
    try:
        _tell(story, root, told)
    finally:
        call("--root", str(root), "cluster", "stop")  # a story that broke off leaves no process behind
    return told


def _tell(story: Sequence[Chapter], root: Path, told: Told) -> None:
    names: dict[str, Any] = {"root": str(root), "new": str(root.parent)}
    for chapter in story:
        words = ["--root", str(root), *(word.format(**names) for word in chapter.words)]
        if chapter.text or chapter.reads:
            code, out, err = call(*words)
            assert code in chapter.codes, f"{' '.join(words)}: exit code {code}\n{out}\n{err}"
            told.texts.setdefault(chapter.command, []).append(out + err)
        if not chapter.text:
            code, out, err = (call_apart if chapter.apart else call)("--json", *words)
            assert code in chapter.codes, f"{' '.join(words)}: exit code {code}\n{out}\n{err}"
            assert out, f"{' '.join(words)} printed nothing\n{err}"
            answer = json.loads(out)
            told.answers.setdefault(chapter.command, []).append(answer)
            if chapter.keep is not None:
                names[chapter.keep] = answer[chapter.field]
        if chapter.then is not None:
            chapter.then(root)
