"""Which verbs there are, where they live and what ``mlcore --help`` says of them.

A verb's module is imported only when it is called, which is why help is instant. A new verb is one line here.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VERBS", "Verb"]


class Verb(NamedTuple):
    """One word after ``mlcore``.

    Attributes:
        name: The word.
        app: Where its typer application is, ``module:attribute``.
        help: One line for the list of commands.
    """

    name: str
    app: str
    help: str


VERBS = (
    Verb("init", "mlflow_core.cli.init:app", "Make a project that works at once."),
    Verb("doctor", "mlflow_core.cli.doctor:app", "Check that this machine and project are ready."),
    Verb("plan", "mlflow_core.cli.plan:app", "Show what apply would change, touch and cost."),
    Verb("apply", "mlflow_core.cli.apply:app", "Write the project's declarations to Feast's registry."),
    Verb("features", "mlflow_core.cli.features:app", "List, show and trace features; get their values."),
    Verb("dataset", "mlflow_core.cli.dataset:app", "Build, show, compare and export training sets."),
    Verb(
        "train",
        "mlflow_core.cli.train:app",
        "Run a training pipeline, from its dataset to a registered model.",
    ),
    Verb("tune", "mlflow_core.cli.tune:app", "Search a training pipeline's settings, and train no model."),
    Verb("materialize", "mlflow_core.cli.materialize:app", "Write features to the online store."),
    Verb("predict", "mlflow_core.cli.predict:app", "Ask a registered model about one entity."),
    Verb("serve", "mlflow_core.cli.serve:app", "Serve features and predictions over HTTP."),
    Verb("runs", "mlflow_core.cli.runs:app", "List, show and compare runs."),
    Verb("models", "mlflow_core.cli.models:app", "List, show, promote, trace and export models."),
    Verb("db", "mlflow_core.cli.db:app", "Check, upgrade, back up and restore the metadata database."),
    Verb("audit", "mlflow_core.cli.audit:app", "Show and check the record of who changed what."),
    Verb("tokens", "mlflow_core.cli.tokens:app", "Make, list and revoke bearer tokens."),
    Verb("schedule", "mlflow_core.cli.schedule:app", "List, pause, resume and start schedules."),
    Verb(
        "scheduler",
        "mlflow_core.cli.scheduler:app",
        "Start pipelines and materialise views when they are due.",
    ),
    Verb("cluster", "mlflow_core.cli.cluster:app", "Start, scale and stop a cluster that stays."),
    Verb("gc", "mlflow_core.cli.gc:app", "Remove what nobody needs any more."),
    Verb("cache", "mlflow_core.cli.cache:app", "List and empty the cache of sources' layouts."),
    Verb(
        "completion",
        "mlflow_core.cli.completion:app",
        "Print the script that lets a shell complete commands.",
    ),
    Verb("config", "mlflow_core.cli.config:app", "Show the settings and where each one comes from."),
)
