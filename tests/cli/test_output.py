"""Tables in 80 columns: folded between words, within words only where a word is wider than the line allows."""

from __future__ import annotations

import pytest

from mlflow_core.cli.output import table

RUN = "20261122T040738-2f01ec5fb1"


def words_of(text: str) -> set[str]:
    return {word for line in text.splitlines() for word in line.split()}


@pytest.mark.parametrize("aliases", ["champion", "candidate, champion, the_one_that_we_had_before"])
@pytest.mark.parametrize(
    "why", ["by hand", f"run {RUN} passed its gate, and somebody said so at some length"]
)
def test_words_stay_whole_where_all_can(aliases: str, why: str) -> None:
    row = ("late_arrival:3", aliases, RUN, why)

    laid = table(("model", "aliases", "run", "why"), [row], width=100)

    assert max(len(line) for line in laid.splitlines()) <= 100
    assert {word for cell in row for word in cell.split()} <= words_of(laid)


def test_what_is_wider_than_a_line_is_folded_and_keeps_every_character() -> None:
    long = "sqlite:////" + "a_long_folder/" * 12

    laid = table(("setting", "value", "origin"), [("metadata.url", long, "default")], width=80)

    assert max(len(line) for line in laid.splitlines()) <= 80
    assert words_of(laid) >= {"metadata.url", "default"}
    assert (
        "".join(
            line[15:-10].strip() if n == 0 else line.strip() for n, line in enumerate(laid.splitlines()[2:])
        )
        == long
    )


def test_an_empty_table_and_empty_cells_are_laid_out() -> None:
    assert table(("run", "state"), [], width=80).splitlines()[0] == "run   state"
    assert "None" not in table(("run", "state"), [("a", None)], width=80)
