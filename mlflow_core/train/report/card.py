"""The model card: what a model is for, what it was made of, how it does and where it does not, on two pages.

After Mitchell et al., "Model Cards for Model Reporting" (2019). It says nothing that was not declared or measured:
the limits are read off the figures, the notes are what training and the checks noticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_core.train.evaluation.bootstrap import Interval
from mlflow_core.train.evaluation.contributions import Contributions
from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.findings import Finding
from mlflow_core.train.evaluation.importance import Importance
from mlflow_core.train.evaluation.metrics import greater_is_better
from mlflow_core.train.evaluation.slices import Slice
from mlflow_core.train.models.model import Model
from mlflow_core.train.report.contents import PartFacts
from mlflow_core.train.report.document import (
    Bullets,
    Document,
    Grid,
    Part,
    Section,
    Text,
    to_html,
    to_markdown,
)
from mlflow_core.train.report.run import time_text

__all__ = [
    "CARD_FILES",
    "FeatureFacts",
    "ModelCard",
    "card_document",
    "feature_facts",
    "worst_slices",
    "write_card",
]

CARD_FILES = ("model_card.md", "model_card.html")
"""What ``write_card`` writes."""

_MUCH_MISSING = 0.2
_MORE_MISSING = 0.1


@dataclass(frozen=True)
class FeatureFacts:
    """What a card says of a feature.

    Args:
        name: Its name.
        kind: ``number``, ``bool`` or ``category``; with its length where it is a sequence.
        type: Its Arrow type in training.
        request: Whether it comes with the request.
        categories: How many values its dictionary has; None where it has none.
        missing: Share of training rows without it.
        missing_later: Share of test rows without it; a category that training never saw is missing.
        importance: What shuffling it costs; None where that was not measured.
        contribution: How far it moves a prediction, the mean absolute contribution; None where that was not measured.
    """

    name: str
    kind: str
    type: str
    request: bool
    categories: int | None
    missing: float
    missing_later: float
    importance: float | None = None
    contribution: float | None = None


@dataclass(frozen=True)
class ModelCard:
    """Everything on a card.

    Args:
        name: The model's name.
        purpose: What it is meant for, as its pipeline declares it.
        owner: Who answers for it; empty if nobody is named.
        label: What the label means.
        model: The model.
        parts: The parts of its data.
        features: What it reads.
        evaluation: How it did on the test part, beside others.
        findings: What the checks for leaks and drift noticed; None if nobody looked.
        importance_metric: What ``importance`` of the features is measured in.
        contributions: What features did to predictions; None where that was not measured.
        facts: What it takes to find or repeat the run.
    """

    name: str
    purpose: str
    owner: str
    label: str
    model: Model
    parts: Sequence[PartFacts]
    features: Sequence[FeatureFacts]
    evaluation: Evaluation
    findings: Sequence[Finding] | None = None
    importance_metric: str = ""
    contributions: Contributions | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def feature_facts(
    model: Model,
    train: pa.Table,
    test: pa.Table,
    importance: Sequence[Importance] = (),
    contributions: Contributions | None = None,
) -> tuple[FeatureFacts, ...]:
    """Describe what a model reads, in its own order.

    Args:
        model: The model.
        train: Rows of the training part, a sample if it is large.
        test: Rows of the test part.
        importance: What each feature is worth, where that was measured.
        contributions: What features did to predictions, where that was measured.

    Raises:
        TrainError: A column is missing.
    """
    worth = {one.feature: one.permutation for one in importance}
    moved = contributions.by_feature() if contributions is not None else {}
    before, later = (_missing(model, table) for table in (train, test))
    return tuple(
        FeatureFacts(
            name=feature.name,
            kind=feature.kind if feature.length is None else f"sequence of {feature.length} {feature.kind}",
            type=feature.type,
            request=feature.name in model.request,
            categories=len(feature.categories) if feature.kind == "category" else None,
            missing=before[feature.name],
            missing_later=later[feature.name],
            importance=worth.get(feature.name),
            contribution=moved.get(feature.name),
        )
        for feature in model.preprocessing.features
    )


def worst_slices(evaluation: Evaluation) -> tuple[Slice, ...]:
    """For each slicing column, the large enough slice on which the first metric is worst."""
    metric, found = evaluation.metrics[0], []
    sign = 1.0 if greater_is_better(metric) else -1.0
    for column in dict.fromkeys(one.column for one in evaluation.slices):
        large = [one for one in evaluation.slices if one.column == column and not one.small]
        known = [one for one in large if np.isfinite(one.metrics[metric].value)]
        if len(known) > 1:
            found.append(min(known, key=lambda one: sign * one.metrics[metric].value))
    return tuple(found)


def card_document(card: ModelCard) -> Document:
    """What a card says, as a document."""
    return Document(
        title=f"Model card: {card.name}",
        lede=card.purpose or f"Predicts {card.label}.",
        sections=(
            _model(card),
            Section("Data", (_parts(card.parts),)),
            _features(card),
            _figures(card.evaluation),
            _slices(card.evaluation),
            _limits(card),
            _settings(card.model),
            _facts(card),
        ),
    )


def write_card(card: ModelCard, folder: Path) -> tuple[Path, Path]:
    """Write ``model_card.md`` and ``model_card.html``.

    Args:
        card: What they say.
        folder: Where; it is made.

    Returns:
        Both paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    markdown, html = (folder / name for name in CARD_FILES)
    document = card_document(card)
    markdown.write_text(to_markdown(document), encoding="utf-8")
    html.write_text(to_html(document), encoding="utf-8")
    return markdown, html


def _missing(model: Model, table: pa.Table) -> dict[str, float]:
    """The share of rows in which nothing is known of each feature."""
    matrix, found = model.preprocessing.matrix(table), {}
    for feature in model.preprocessing.features:
        columns = matrix[:, model.preprocessing.slices[feature.name]]
        values = (
            columns if feature.length is None else columns[:, :-1]
        )  # the last one is the length, never missing
        found[feature.name] = float(np.isnan(values).all(axis=1).mean()) if len(matrix) else 0.0
    return found


def _model(card: ModelCard) -> Section:
    model = card.model
    rows = [
        ("predicts", card.label),
        ("task", model.task),
        ("made of", f"{model.kind}, objective {model.objective}"),
        ("values a row", ", ".join(model.outputs) if model.outputs else "one"),
        ("owner", card.owner or "not named"),
    ]
    return Section("Model", (Grid(("", ""), tuple(rows)),))


def _parts(parts: Sequence[PartFacts]) -> Grid:
    counted = any(part.positives is not None for part in parts)
    rows = []
    for part in parts:
        left = ", ".join(f"{count:,} {reason}" for reason, count in part.left_out.items() if count) or "none"
        share = f"{part.positives / part.rows:.1%}" if part.positives is not None and part.rows else "–"
        own = (part.name, f"{part.rows:,}", *((share,) if counted else ()))
        rows.append((*own, time_text(part.start), time_text(part.end), left))
    head = (
        "part",
        "rows",
        *(("positives",) if counted else ()),
        "first query (UTC)",
        "last query (UTC)",
        "left out",
    )
    return Grid(head, tuple(rows), (1, 2) if counted else (1,))


def _features(card: ModelCard) -> Section:
    rows = []
    for one in card.features:
        kind = one.kind if one.categories is None else f"{one.kind} of {one.categories:,}"
        worth = "–" if one.importance is None else f"{round(one.importance, 4) + 0.0:.4f}"
        source = "request" if one.request else "store"
        missing = (f"{one.missing:.1%}", f"{one.missing_later:.1%}")
        moves = () if card.contributions is None else (_moved(one.contribution),)
        rows.append((one.name, kind, one.type, source, *missing, worth, *moves))
    head = ["feature", "kind", "type", "from", "missing in train", "missing in test", "worth"]
    head += [] if card.contributions is None else ["moves by"]
    said = []
    if card.importance_metric:
        said.append(
            f"Worth: by how much {card.importance_metric} is worse on a sample of test rows with the feature shuffled."
        )
    if (found := card.contributions) is not None:
        several = ", added up over its outputs" if len(found.outputs) > 1 else ""
        said.append(
            f"Moves by: the mean absolute contribution to a prediction, in {found.unit}{several}. {found.told()}"
        )
    grid = Grid(tuple(head), tuple(rows), tuple(range(4, len(head))))
    return Section("Features", (*map(Text, said), grid))


def _moved(contribution: float | None) -> str:
    return "–" if contribution is None else f"{contribution:.3g}"


def _figures(found: Evaluation) -> Section:
    first = found.models[0]
    rows = [
        (model, *(_interval(found.score(metric, model)) for metric in found.metrics))
        for model in found.models
    ]
    head = (
        "model",
        *(f"{m} ({'higher' if greater_is_better(m) else 'lower'} is better)" for m in found.metrics),
    )
    unit = {"day": f"whole days ({found.days})", "query": f"whole queries ({found.queries})", "row": "rows"}
    parts: list[Part] = [
        Text(f"On {found.rows:,} rows of the test part; 95 % intervals by resampling {unit[found.unit]}."),
        Grid(head, tuple(rows), tuple(range(1, len(head)))),
    ]
    if len(found.models) > 1:
        told = []
        for other in found.models[1:]:
            for metric in found.metrics:
                better = found.difference(metric, first, other)
                told.append((f"{first} against {other}", metric, _interval(better, "+.4f"), _verdict(better)))
        parts += [
            Text(
                "Paired differences on the same resamples; above 0 the first is better, whichever way it points."
            ),
            Grid(("models", "metric", "difference", ""), tuple(told), (2,)),
        ]
    return Section("Figures", tuple(parts))


def _slices(found: Evaluation) -> Section:
    worst = worst_slices(found)
    if not worst:
        return Section("Slices", ())
    metric = found.metrics[0]
    overall = _interval(found.score(metric))
    rows = [(one.column, one.value, f"{one.rows:,}", _interval(one.metrics[metric])) for one in worst]
    small = sum(one.small for one in found.slices)
    said = f"The worst value of each column by {metric}, which is {overall} over all rows."
    said += f" Left out as too small to say much: {small} of {len(found.slices)} slices." if small else ""
    return Section("Slices", (Text(said), Grid(("column", "value", "rows", metric), tuple(rows), (2, 3))))


def _limits(card: ModelCard) -> Section:
    test = next((part for part in card.parts if part.name == "test"), None)
    said = []
    if test is not None and test.start is not None:
        said.append(
            f"Measured on queries from {time_text(test.start)} to {time_text(test.end)}; nothing is known of later ones."
        )
    if any(one.categories is not None for one in card.features):
        said.append("A category that training never saw is read as missing.")
    for one in card.features:
        if one.missing_later - one.missing > _MORE_MISSING:
            said.append(
                f"{one.name} is missing in {one.missing_later:.1%} of the test rows, and in {one.missing:.1%} of the "
                "training rows."
            )
        elif one.missing > _MUCH_MISSING:
            said.append(f"{one.name} is missing in {one.missing:.1%} of the training rows.")
    for other in card.evaluation.models[1:]:
        metric = card.evaluation.metrics[0]
        if card.evaluation.difference(metric, card.evaluation.models[0], other).low <= 0:
            said.append(f"By {metric} it is not clearly better than {other}.")
    said += card.model.notes
    if card.findings is None:
        said.append("Nobody looked for leaks between label and features, or for drift between the parts.")
    said += [f"{one.severity}: {one.sentence}" for one in card.findings or ()]
    return Section("Limits and notes", (Bullets(tuple(said)),) if said else ())


def _settings(model: Model) -> Section:
    settings = model.metadata.get("trainer", {})
    rows = tuple((name, str(value)) for name, value in settings.items() if value not in (None, [], {}, ""))
    return Section("Training", (Grid(("setting", "value"), rows),) if rows else ())


def _facts(card: ModelCard) -> Section:
    rows = [(name, str(value)) for name, value in card.facts.items()]
    rows += [("features' digest", card.model.preprocessing.digest)]
    rows += [
        (name, f"{value:,}") for name, value in card.model.scorer.facts().items() if isinstance(value, int)
    ]
    return Section("The run", (Grid(("fact", "value"), tuple(rows)),))


def _interval(found: Interval, form: str = ".4f") -> str:
    if not np.isfinite(found.value):
        return "not defined"
    if not np.isfinite(found.low):
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})".replace("-0.0000", "0.0000")


def _verdict(found: Interval) -> str:
    return "better" if found.low > 0 else "worse" if found.high < 0 else "no clear difference"
