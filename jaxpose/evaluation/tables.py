"""Format results as aligned text with the columns of the paper's tables."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxpose.evaluation.metrics import Inversions
from jaxpose.evaluation.protocol_results import ProtocolResult
from jaxpose.evaluation.protocols import Protocol


class PaperTable(NamedTuple):
    """Rows of a table of the paper: (method, family, rates of the columns and of the total).

    These are the paper's own method and the best detection- and regression-based methods; the
    number in brackets after a method is the paper's reference.
    """

    number: int
    protocol: str
    title: str
    rows: tuple[tuple[str, str, tuple[float, ...]], ...]


def _row(method: str, family: str, rates: str) -> tuple[str, str, tuple[float, ...]]:
    return method, family, tuple(float(rate) for rate in rates.split())


PAPER_TABLES = (
    PaperTable(
        1,
        "lsp-pck",
        "LSP test, observer-centric",
        (
            _row("Our method", "regression", "97.4 93.8 86.8 82.3 93.7 90.9 88.3 90.5"),
            _row("Pishchulin et al. [33]", "detection", "97.4 92.0 83.8 79.0 93.1 88.3 83.7 88.2"),
            _row("Chu et al. [12]", "detection", "93.7 87.2 78.2 73.8 88.2 83.0 80.9 83.6"),
        ),
    ),
    PaperTable(
        2,
        "lsp-pcp",
        "LSP test, observer-centric",
        (
            _row("Our method", "regression", "98.2 93.8 89.8 85.8 75.5 96.0 88.4"),
            _row("Pishchulin et al. [33]", "detection", "96.0 91.0 83.5 82.8 71.8 96.2 85.0"),
        ),
    ),
    PaperTable(
        3,
        "lsp-pck",
        "LSP test, person-centric",
        (
            _row("Our method", "regression", "97.5 93.3 87.6 84.6 92.8 92.0 90.0 91.1"),
            _row("Chu et al. [13]", "detection", "98.1 93.7 89.3 86.9 93.4 94.0 92.5 92.6"),
            _row("Carreira et al. [6]", "regression", "90.5 81.8 65.8 59.8 81.6 70.6 62.0 73.1"),
            _row(
                "Belagiannis, Zisserman [4]", "detection", "95.2 89.0 81.5 77.0 83.7 87.0 82.8 85.2"
            ),
            _row("Yu et al. [46]", "detection", "87.2 88.2 82.4 76.3 91.4 85.8 78.7 84.3"),
        ),
    ),
    PaperTable(
        4,
        "lsp-pcp",
        "LSP test, person-centric",
        (
            _row("Our method", "regression", "98.2 93.6 91.0 86.6 78.2 96.8 89.4"),
            _row("Chu et al. [13]", "detection", "98.4 95.0 92.8 88.5 81.2 95.7 90.9"),
            _row("Carreira et al. [6]", "regression", "95.3 81.8 73.3 66.7 51.0 84.4 72.5"),
        ),
    ),
    PaperTable(
        5,
        "mpii-pckh",
        "MPII test",
        (
            _row("Our method", "regression", "98.1 96.6 92.0 87.5 90.6 88.0 82.7 91.2"),
            _row("Chen et al. [8]", "detection", "98.1 96.5 92.5 88.5 90.2 89.6 86.0 91.9"),
            _row("Chou et al. [11]", "detection", "98.2 96.8 92.2 88.0 91.3 89.1 84.9 91.8"),
            _row("Newell et al. [27]", "detection", "98.2 96.3 91.2 87.1 90.1 87.4 83.6 90.9"),
            _row("Sun et al. [38]", "regression", "97.5 94.3 87.0 81.2 86.5 78.5 75.4 86.4"),
            _row("Carreira et al. [6]", "regression", "95.7 91.7 81.7 72.4 82.8 73.2 66.4 81.3"),
        ),
    ),
)


def paper_tables(protocol: Protocol) -> tuple[PaperTable, ...]:
    """Return the paper's tables for a protocol."""
    return tuple(table for table in PAPER_TABLES if table.protocol == protocol.name)


def paper_dicts(protocol: Protocol) -> list[dict[str, Any]]:
    """Return the paper's tables for a protocol as dicts; column keys as in ``ProtocolResult``."""
    keys = [key for key, _, _ in protocol.columns]
    return [
        {
            "table": table.number,
            "title": table.title,
            "method": method,
            "family": family,
            "columns": dict(zip(keys, rates[:-1], strict=True)),
            "total": rates[-1],
        }
        for table in paper_tables(protocol)
        for method, family, rates in table.rows
    ]


def columns_text(
    results: Sequence[tuple[str, ProtocolResult]], *, description: str = "", paper: bool = False
) -> str:
    """Format results with the paper's columns, one line per result.

    Args:
      results: (label, result) pairs of one protocol: several networks, or the blocks of one.
      description: part of the title, such as the data set and the crop.
      paper: whether to append the paper's rows.
    """
    first = results[0][1]
    protocol = first.protocol
    title = f"{protocol.label}, {_plural(first.persons, 'person')}"
    rows = [["", *(header for _, header, _ in protocol.columns), protocol.total]]
    rows += [
        [label, *(_rate(rate) for rate in found.columns.values()), _rate(found.total)]
        for label, found in results
    ]
    if paper:
        for table in paper_tables(protocol):
            rows.append([f"Paper, Table {table.number}: {table.title}"])
            # A space in place of the second decimal, which the paper does not give.
            rows += [
                [f"  {method} ({family})", *(f"{rate:.1f} " for rate in rates)]
                for method, family, rates in table.rows
            ]
    return "\n".join([f"{title}: {description}" if description else title, "", *_aligned(rows)])


def parts_text(found: ProtocolResult) -> str:
    """Format the rate and the numbers of entries of each joint or stick."""
    rows = [["", "rate", "correct", "counted", "not labeled", "not predicted"]]
    for name, part in found.parts.items():
        rows.append([name, _rate(part.rate), *(str(number) for number in part[1:])])
    if found.inversions is not None:
        rows[0].append("inversions")
        for row in rows[1:]:
            joint = found.inversions.get(row[0])
            row.append("-" if joint is None else str(joint.inverted))
    if found.errors is not None:
        rows[0].append("mean error")
        for row in rows[1:]:
            row.append(_rate(found.errors[row[0]]))
    return "\n".join(_aligned(rows))


def beside_text(found: ProtocolResult) -> str:
    """Format further figures: other averages, other thresholds, and what was ignored."""
    protocol = found.protocol
    kind = protocol.part_kind
    averages = {}
    if protocol.averaged:
        counted = sum(found.parts[part].counted > 0 for part in protocol.averaged)
        parts = _plural(counted, kind)
        averages[f"rate over all labels of {parts} (pooled)"] = found.pooled
        averages[f"mean of the rates of {parts}"] = found.mean_of_rates
    averages |= {f"{key.replace('_', ' ')} (pooled)": rate for key, rate in found.extras.items()}
    if len(found.at_threshold) > 1:
        for threshold, rate in found.at_threshold.items():
            averages[f"{protocol.metric}@{threshold:g}"] = rate
    if protocol.has_curve:
        top = protocol.thresholds[-1]
        averages[f"area under the curve, thresholds 0 to {top:g}"] = found.area_under_curve
    if found.errors is not None:
        averages[f"mean error (NME), percent of {protocol.unit}"] = found.mean_error
    rows = [[name, _rate(rate)] for name, rate in averages.items()]
    if found.all_inversions is not None:
        name = "inversions (wrong joints at their counterpart's position)"
        rows.append([name, inversions_text(found.all_inversions)])
    lines = [*_aligned(rows), ""] if rows else []
    left_out = [_plural(found.not_labeled, kind) + " without a label"]
    if found.not_predicted:
        left_out.append(_plural(found.not_predicted, f"labeled {kind}") + " without a prediction")
    if protocol.lacking:
        persons = _plural(found.persons_left_out, "person")
        left_out.append(f"{persons} without {protocol.lacking}")
    lines.append(f"ignored: {', '.join(left_out)}")
    if found.parts_left_out:
        lines.append(f"not in any average: {', '.join(found.parts_left_out)}")
    return "\n".join(lines)


def inversions_text(found: Inversions) -> str:
    """Format the number of inversions with that of the wrong joints, such as ``1 of 4 (25 %)``."""
    percent = f" ({100 * found.inverted / found.wrong:.0f} %)" if found.wrong else ""
    return f"{found.inverted} of {found.wrong}{percent}"


def text(
    found: ProtocolResult, *, label: str = "", description: str = "", paper: bool = False
) -> str:
    """Format all figures of a result, for printing."""
    columns = columns_text([(label, found)], description=description, paper=paper)
    parts = [parts_text(found)] if found.parts else []
    return "\n\n".join([columns, beside_text(found), *parts])


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, numbers to the right."""
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[column]) for row in full) for column in range(len(full[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        lines.append("  ".join(cells).rstrip())
    return lines
