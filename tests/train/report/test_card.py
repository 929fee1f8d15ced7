"""The model card says the same in Markdown and HTML, and its limits are read off the figures."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.train.report.card import ModelCard, card_document, feature_facts, worst_slices, write_card
from mlflow_core.train.report.document import Bullets, Document, Grid, Section, Text, to_html, to_markdown
from tests.train.report.conftest import Made
from tests.train.report.made_report import FINDING


@pytest.fixture
def card(made: Made) -> ModelCard:
    report, data = made("binary")
    return ModelCard(
        name="late",
        purpose="Warns crews two hours before departure; not meant for passengers.",
        owner="ops@example.org",
        label="label: arr_delay > 15",
        model=report.model,
        parts=report.parts,
        features=feature_facts(
            report.model, data.read("train"), data.read("test"), report.importance, report.contributions
        ),
        evaluation=report.evaluation,
        findings=[FINDING],
        importance_metric="auc",
        contributions=report.contributions,
        facts=report.facts,
    )


def test_both_forms_say_everything_and_need_nothing(card: ModelCard, tmp_path: Path) -> None:
    markdown, html = (path.read_text() for path in write_card(card, tmp_path / "card"))

    said = unescape(re.sub(r"<[^>]+>", " ", html))
    score = card.evaluation.score("auc")
    for text in (
        "Warns crews two hours before departure",
        "ops@example.org",
        "binary:logistic",
        "category of 4",
        f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f})",
        "late against rate",
        "A category that training never saw is read as missing.",
        "learning_rate",
        "01ABC",
        card.model.preprocessing.digest,
        "Moves by: the mean absolute contribution to a prediction, in log-odds. SHAP values of a sample of 100 rows, off",
    ):
        assert text in markdown, text
        assert text in said, text
    assert "label: arr_delay \\> 15" in markdown
    assert "warning: Rows differ, by <gust>." in said
    assert "by \\<gust\\>" in markdown
    assert not re.search(r'(?:src|href)="|@import|url\(', html)
    for heading in ("Model", "Data", "Features", "Figures", "Limits and notes", "Training", "The run"):
        assert f"\n## {heading}\n" in markdown
        assert f"<h2>{heading}</h2>" in html


def test_features_are_described_with_what_is_missing_in_each_part(card: ModelCard, made: Made) -> None:
    report, data = made("binary")
    facts = {one.name: one for one in card.features}

    train = data.read("train")
    assert facts["delay"].missing == pytest.approx(np.isnan(train["delay"].to_numpy()).mean())
    assert facts["carrier"].missing_later == data.read("test")["carrier"].null_count / 800
    assert (facts["carrier"].kind, facts["carrier"].categories, facts["carrier"].request) == (
        "category",
        4,
        True,
    )
    assert facts["late"].kind == "bool"
    assert facts["delay"].importance is not None
    assert facts["delay"].contribution == report.contributions.by_feature()["delay"]


def test_limits_are_read_off_the_figures(card: ModelCard, made: Made) -> None:
    report, data = made("binary")
    test = data.read("test")
    holes = test.set_column(
        test.column_names.index("carrier"), "carrier", pa.array(["XX"] * 400 + ["UA"] * 400)
    )
    broken = replace(
        card,
        features=feature_facts(report.model, data.read("train"), holes),
        findings=None,
        model=replace(report.model, notes=("gust is constant",)),
    )

    said = to_markdown(card_document(broken))

    assert "carrier is missing in 50.0% of the test rows" in said
    assert "Nobody looked for leaks" in said
    assert "gust is constant" in said
    assert (
        "Measured on queries from 2001-09-09 01:46 to 2033-05-18 03:33; nothing is known of later ones."
        in said
    )


def test_a_card_without_contributions_has_no_column_of_them(card: ModelCard) -> None:
    bare = replace(card, contributions=None, importance_metric="")

    assert "| worth | moves by |" in to_markdown(card_document(card))
    assert "| worth |\n" in to_markdown(card_document(bare))
    assert "SHAP" not in to_markdown(card_document(bare))


def test_the_worst_large_slice_of_each_column_is_named(card: ModelCard) -> None:
    found = card.evaluation
    one, other = found.slices[0], found.slices[1]
    values = [0.7, 0.6, 0.2]
    named = [
        replace(one, value=str(n), small=n == 2, metrics={"auc": replace(one.metrics["auc"], value=value)})
        for n, value in enumerate(values)
    ]

    worst = worst_slices(replace(found, slices=(*named, replace(other, column="alone", small=False))))

    assert [(each.column, each.value) for each in worst] == [("carrier", "1")]


def test_a_document_escapes_what_it_is_given_in_either_form() -> None:
    document = Document(
        title="a_b <i>",
        lede="1 * 2 | 3",
        sections=(
            Section(
                "S",
                (Text("x\ny"), Bullets(("_one_", "two_words")), Grid(("a|b", "n"), (("<c>", "1"),), (1,))),
            ),
            Section("empty", ()),
        ),
    )

    assert to_markdown(document).splitlines() == [
        r"# a_b \<i\>",
        "",
        r"1 \* 2 \| 3",
        "",
        "## S",
        "",
        "x y",
        "",
        r"- \_one\_",
        "- two_words",
        "",
        r"| a\|b | n |",
        "| --- | ---: |",
        r"| \<c\> | 1 |",
    ]
    html = to_html(document)
    assert "a_b &lt;i&gt;" in html
    assert "<li>_one_</li>" in html
    assert "empty" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
