"""Logs: levels, JSON lines, and secrets that never come out."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from mlflow_core.telemetry import configure_logging, get_logger
from mlflow_core.telemetry.logs import blotted


@pytest.fixture(autouse=True)
def _leave_no_handler_behind() -> Iterator[None]:
    logger = logging.getLogger("mlflow_core")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.mark.parametrize(("verbosity", "lines"), [(-1, 1), (0, 2), (1, 3), (2, 4), (5, 4)])
def test_verbosity_decides_which_lines_appear(verbosity: int, lines: int) -> None:
    out = io.StringIO()
    configure_logging(verbosity, stream=out)
    log = get_logger("engine")
    log.error("e")
    log.warning("w")
    log.info("i")
    log.debug("d")
    assert len(out.getvalue().splitlines()) == lines


def test_setting_up_twice_writes_once_and_to_the_last_stream() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(0, stream=first)
    configure_logging(0, stream=second)
    get_logger("plan").warning("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_json_line_is_one_object_with_its_facts() -> None:
    out = io.StringIO()
    configure_logging(1, json_lines=True, stream=out)
    get_logger("mlflow_core.engine.join").info("joined %d rows", 7, extra={"rows": 7, "view": "weather"})
    line = json.loads(out.getvalue())
    assert line["message"] == "joined 7 rows"
    assert (line["level"], line["logger"], line["rows"], line["view"]) == (
        "info",
        "mlflow_core.engine.join",
        7,
        "weather",
    )
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_secret_is_hidden_in_messages_facts_and_tracebacks(json_lines: bool) -> None:
    secret = 'ti"ger-42'
    out = io.StringIO()
    configure_logging(2, json_lines=json_lines, stream=out, redact=[secret, "", "ti"])
    log = get_logger("metadata")
    log.info("connecting with %s", secret, extra={"url": f"db://{secret}@h", "all": {"p": [secret]}})
    try:
        raise RuntimeError(f"refused: {secret}")
    except RuntimeError:
        log.exception("failed")
    text = out.getvalue()
    assert "ger-42" not in text
    assert "refused" in text
    assert text.count("***") >= 4


def test_a_short_secret_is_hidden_where_it_stands_alone_and_leaves_words_whole() -> None:
    said = "cannot plan: user=ann, https://ann:x-1@ann-host, anna"
    assert blotted(said, ["ann", "x-1"]) == "cannot plan: user=***, https://***:***@***-host, anna"


def test_a_text_line_names_the_room_and_its_facts() -> None:
    out = io.StringIO()
    configure_logging(0, stream=out)
    get_logger("online").warning("stale", extra={"view": "weather"})
    assert out.getvalue().endswith("warning online: stale view=weather\n")
