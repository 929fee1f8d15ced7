"""``mlcore predict``: what a registered model says of one entity now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.words import AtOption, Values, clock_of_call, values_of_words

__all__ = ["app", "predict"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def predict(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model: NAME, NAME@ALIAS or NAME:VERSION.")],
    values: Values = None,
    at: AtOption = None,
    show_features: Annotated[
        bool, typer.Option("--features", help="Show the features that it was made from.")
    ] = False,
) -> None:
    """Predict for one entity, from its features in the online store.

    Example: mlcore predict late_arrival --at 2013-11-15T12:30Z carrier=UA origin=EWR dest=ORD distance=719
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.cli.features_get import answer_rows
    from mlflow_core.cli.output import table
    from mlflow_core.serve.features import Features, make_importable
    from mlflow_core.serve.predict import Models, Predictor
    from mlflow_core.serve.request import columns_of_text

    call = invocation(context)
    given = values_of_words(values)
    clock = clock_of_call(call, at=at)
    models = Models(call.metadata, ArtifactStore(call.settings.artifact_location()))
    loaded = models.get(model)
    make_importable(call.root)
    features = Features.open(call.repo, clock)
    try:
        predictor = Predictor(features, models)
        service = predictor.service_of(loaded)
        prediction = predictor.predict(loaded, columns_of_text(service, given))
    finally:
        features.close()
    who = loaded.describe()
    value, outputs = prediction.values[0], loaded.model.outputs
    title = loaded.model.label or loaded.model.task
    lines = [f"{title}: {_shown(value, outputs)}  ({loaded.version.title}{_alias(loaded.alias)})"]
    if show_features:
        columns = ("feature", "value", "status", "event time")
        lines += ["", table(columns, answer_rows(prediction.answer), width=call.out.width)]
    data: dict[str, Any] = {"prediction": value, "model": who, "service": service.name}
    if outputs:
        data["outputs"] = list(outputs)
    if show_features:
        data |= (service.short or service.full).compact.data(prediction.answer, times=True, types=True)
    call.result(data, "\n".join(lines))


def _shown(value: float | list[float], outputs: Sequence[str]) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(f"{name} {one:.6g}" for name, one in zip(outputs, value, strict=True))


def _alias(alias: str | None) -> str:
    return "" if alias is None else f" @{alias}"
