"""The report's sections about the run itself: its data, example rows, identifiers, and what the checks noticed."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

import pyarrow as pa

from mlflow_core.train.evaluation.findings import Finding
from mlflow_core.train.report.contents import Report
from mlflow_core.train.report.page import Cell, number, section, table

__all__ = [
    "data_section",
    "examples_section",
    "facts_section",
    "findings_section",
    "severity_pill",
    "time_text",
]

_PILLS = {"critical": "bad", "warning": "warn", "info": "flat"}


def data_section(report: Report) -> str:
    """The parts of the data, and what the model reads."""
    counted = any(part.positives is not None for part in report.parts)
    rows: list[list[object]] = []
    for part in report.parts:
        share = f"{part.positives / part.rows:.1%}" if part.positives is not None and part.rows else "–"
        out = ", ".join(f"{count:,} {reason}" for reason, count in part.left_out.items() if count)
        labels = [part.positives if part.positives is not None else "–", share] if counted else []
        rows.append(
            [part.name, part.rows, *labels, time_text(part.start), time_text(part.end), out or "none"]
        )
    kinds = [feature.kind for feature in report.model.preprocessing.features]
    names = {"number": "number", "bool": "boolean", "category": "category"}
    told = ", ".join(_counted(kinds.count(kind), names[kind]) for kind in dict.fromkeys(kinds))
    label = f"label “{report.model.label}”" if report.model.label else "trained without a label"
    note = f"{_counted(len(kinds), 'feature')} ({told}), {label}. Parts are cut in query time; times are UTC."
    head = [
        "part",
        "rows",
        *(["positives", "share"] if counted else []),
        "first query",
        "last query",
        "left out",
    ]
    return section("Data and split", note, table(head, rows, numbers=range(1, len(head) - 3)))


def findings_section(report: Report) -> str:
    """What the checks for leaks and drift noticed."""
    if report.findings is None:
        return ""
    note = report.checked or "What may make the figures better than they will be in service."
    rows = [[severity_pill(one), one.subject, one.sentence] for one in report.findings]
    shown = table(["", "about", "found"], rows) if rows else "<p>Nothing was noticed.</p>"
    return section("Leaks and drift", note, shown)


def examples_section(report: Report) -> str:
    """A few rows with their predictions."""
    if report.examples is None or not report.examples.num_rows:
        return ""
    examples = report.examples
    numeric = [
        n
        for n, type_ in enumerate(examples.schema.types)
        if pa.types.is_integer(type_) or pa.types.is_floating(type_)
    ]
    rows = [[_shown(value) for value in row.values()] for row in examples.to_pylist()]
    note = "Rows of the test part, as the model saw them."
    return section("Example predictions", note, table(examples.column_names, rows, numbers=numeric))


def facts_section(report: Report) -> str:
    """What it takes to find or repeat the run."""
    rows: list[list[object]] = [
        [name, Cell(f"<code>{escape(str(value))}</code>")] for name, value in report.facts.items()
    ]
    settings = report.model.metadata.get("trainer", {})
    rows.append(
        [
            "trainer",
            Cell(
                f"<code>{escape(', '.join(f'{k}={v}' for k, v in settings.items() if v not in (None, [], {})))}</code>"
            ),
        ]
    )
    rows += [[name, value] for name, value in report.model.scorer.facts().items() if isinstance(value, int)]
    rows += [["note", note] for note in report.model.notes]
    return section("The run", "What it takes to find or repeat it.", table(["", ""], rows))


def time_text(moment: int | None) -> str:
    """A moment, microseconds since epoch, as text in UTC; a dash for none."""
    return "–" if moment is None else datetime.fromtimestamp(moment / 1e6, UTC).strftime("%Y-%m-%d %H:%M")


def severity_pill(finding: Finding) -> Cell:
    """A finding's severity as a pill."""
    return Cell(f'<span class="pill {_PILLS[finding.severity]}">{finding.severity}</span>')


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return number(value, 3) if isinstance(value, float) else value


def _counted(count: int, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("y") else f"{count:,} {noun}s"
