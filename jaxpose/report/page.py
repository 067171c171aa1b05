"""Write a self-contained HTML page of metrics, curves and images (well-formed XML, no scripts)."""

import base64
import html
import importlib.resources
import io
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.evaluation.metric_choice import LOSS
from jaxpose.evaluation.protocol_results import ProtocolResult
from jaxpose.evaluation.tables import inversions_text
from jaxpose.optional import import_optional
from jaxpose.report.curves import Curve, line_chart
from jaxpose.storage import open_path, replace_file
from jaxpose.visualize import joint_colors

QUALITIES = (85, 70, 55, 40, 25)  # of WebP, tried in turn
MAX_IMAGE_BYTES = 1_350_000  # all images together; 1.8 MB in base64
MANY = 4  # panels with at least this many images have two rows on a phone
SMALL_PANEL_WIDTH = 300  # narrower panels are shown in pairs on a phone


class PanelImage(NamedTuple):
    """One image of a panel.

    Attributes:
      image: uint8 [H, W, 3] RGB; an array used by several images is stored once.
      label: one or two words, shown below the image.
      alt: alternative text for screen readers.
      overlay: SVG elements drawn over the image, in pixels of the image.
    """

    image: np.ndarray
    label: str
    alt: str
    overlay: str = ""


class Panel(NamedTuple):
    """Images side by side, with a caption."""

    caption: str
    images: Sequence[PanelImage]


class Section(NamedTuple):
    """A heading, a text and panels.

    Attributes:
      text: paragraph below the heading; "" for none.
      width: width of a panel on a large screen, in pixels; panels are placed side by side.
      has_main_image: whether a panel's first image is larger than the others.
    """

    title: str
    text: str
    panels: Sequence[Panel]
    width: int = 500
    has_main_image: bool = False


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    description: str,
    rows: Mapping[str, Mapping[str, ProtocolResult]],
    history: Sequence[Mapping[str, Any]],
    images: Sequence[Section],
    maps: Sequence[Section] = (),
    blocks: Mapping[str, Mapping[str, ProtocolResult]] | None = None,
    beside: Mapping[str, Mapping[str, Mapping[str, ProtocolResult]]] | None = None,
    notes: Sequence[tuple[str, str]] = (),
) -> pathlib.Path:
    """Write the page; it works offline, supports light and dark mode, and adapts to phones.

    Args:
      path: path of the file; an existing file is replaced atomically.
      title: heading of the page.
      description: paragraph below the heading.
      rows: results by row name (data set, split, crop) and protocol name.
      history: records of metrics.jsonl, of the kinds "train" and "validation"; may be empty.
      images: sections at the top of the page; all images of the page together are compressed to at
        most 1.8 MB of text.
      maps: sections below the tables.
      blocks: for each row name, results of one protocol by prediction block or decoding.
      beside: results of baselines by name, such as "mean pose", each like ``rows``.
      notes: (term, text) pairs at the end of the page.

    Returns:
      The path.

    Raises:
      JaxposeError: the file cannot be written.
    """
    beside, blocks = beside or {}, blocks or {}
    several = len(rows) > 1
    rows = {name: results for name, results in rows.items() if results}
    first, last = _sections(images, maps)
    style = importlib.resources.files("jaxpose.report").joinpath("style.css")
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{_text(title)}</title>",
        f"<style>\n{style.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>",
        f"<h1>{_text(title)}</h1>\n<p>{_text(description)}</p>",
        _headline(rows, beside, named=several),
        first,
        _curves(history),
        *(_row(name, results, beside, blocks.get(name, {})) for name, results in rows.items()),
        last,
        _notes(notes),
        "</main>\n</body>\n</html>\n",
    ]
    path = open_path(path)
    try:
        replace_file(path, "\n".join(part for part in parts if part))
    except OSError as error:
        raise JaxposeError(
            f"{path} cannot be written ({error.strerror or error}); free disk space or fix the "
            "permissions"
        ) from error
    return path


def _text(value: object) -> str:
    return html.escape(str(value))


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.2f}"


def _headline(rows, beside, *, named: bool) -> str:
    """Make the headline: the totals of the first evaluated row, and its name if ``named``."""
    if not rows:
        return ""
    row, results = next(iter(rows.items()))
    items = []
    for protocol, result in results.items():
        others = "".join(
            f'<span class="quiet">{_text(label)} {_rate(found.total)}</span>'
            for label, found in _beside(beside, row, protocol).items()
        )
        items.append(
            f"<li><span>{_text(result.protocol.label)}</span><b>{_rate(result.total)}</b>"
            f"{others}</li>"
        )
    name = [f'<p class="quiet">{_text(row)}</p>'] if named else []
    return "\n".join([*name, '<ul class="results">', *items, "</ul>"])


def _beside(beside, row: str, protocol: str) -> dict[str, ProtocolResult]:
    """Return the baselines' results on one row for one protocol, by name."""
    found = {label: rows.get(row, {}).get(protocol) for label, rows in beside.items()}
    return {label: result for label, result in found.items() if result is not None}


def _row(row: str, results, beside, blocks) -> str:
    """Make the section with all results on one test row."""
    others = {protocol: _beside(beside, row, protocol) for protocol in results}
    parts = [
        _parts(result, others[protocol])
        for protocol, result in results.items()
        if any(part.counted for part in result.parts.values())
    ]
    start = '<details open="open">\n<summary>Each joint</summary>\n<div class="parts">'
    details = [start, *parts, "</div>\n</details>"] if parts else []
    return "\n".join(
        [
            f"<section>\n<h2>Results on {_text(row)}</h2>",
            *(
                _columns({"this network": result, **others[protocol]})
                for protocol, result in results.items()
            ),
            *([_columns(blocks, "by prediction block", kind="columns alike")] if blocks else []),
            *details,
            "</section>",
        ]
    )


def _columns(
    results: Mapping[str, ProtocolResult], caption: str = "", *, kind: str = "columns"
) -> str:
    """Make a table with the paper's columns, one line per result.

    The note below it states the counts of the first result.
    """
    first = next(iter(results.values()))
    protocol = first.protocol
    headers = [_text(header) for _, header, _ in protocol.columns] + [_text(protocol.total)]
    ignored = ""
    if first.persons_left_out:
        ignored = f" ({first.persons_left_out} of them ignored: without {protocol.lacking})"
    kind_of_rate = "Percent correct" if protocol.thresholds else "Percent"
    without = f"{first.not_labeled} {protocol.part_kind}s without a label"
    if first.not_predicted:
        without += f", {first.not_predicted} labeled {protocol.part_kind}s without a prediction"
    note = f"{kind_of_rate}; {first.persons} persons{ignored}, {without}."
    body = []
    for label, found in results.items():
        rates = [*found.columns.values(), found.total]
        body.append([_text(label), *(_rate(rate) for rate in rates)])
    caption = f"{protocol.label} {caption}".strip()
    return _table(caption, ["", *headers], body, kind=kind, note=note)


def _parts(result: ProtocolResult, others: dict[str, ProtocolResult]) -> str:
    """Make a table of joints or sticks: rate and bar, the first baseline's rate, counts."""
    parts = {part: found for part, found in result.parts.items() if found.counted}
    colors = joint_colors(tuple(parts))
    body = []
    for (part, found), color in zip(parts.items(), colors, strict=True):
        name = _text(part.replace("_", " "))
        if result.protocol.part_kind == "joint":  # sticks have no color in the images
            name = f'<i class="chip" style="background: rgb({_list(color)})"></i>{name}'
        bar = f"--rate: {found.rate or 0:.1f}%"
        rates = [other.parts[part].rate for other in others.values()][:1]
        bar += "".join(f"; --beside: {rate or 0:.1f}%" for rate in rates)
        body.append(
            [
                name,
                f'<i class="{"bar marked" if rates else "bar"}" style="{bar}"></i>',
                _rate(found.rate),
                *(_rate(rate) for rate in rates),
                f"{found.correct} of {found.counted}",
            ]
        )
    headers = ["", "", "percent correct", *map(_text, list(others)[:1]), "correct of counted"]
    notes = []
    if result.all_inversions is not None:
        notes.append(
            "Inversions (wrong joints at the position of their counterpart): "
            f"{inversions_text(result.all_inversions)}."
        )
    if result.errors is not None:
        headers.append("mean error")
        for row, part in zip(body, parts, strict=True):
            row.append(_rate(result.errors[part]))
        notes.append(
            f"Mean error (NME) over all joints: {_rate(result.mean_error)} % of "
            f"{result.protocol.unit}."
        )
    return _table(result.protocol.label, headers, body, kind="each", note=" ".join(notes))


def _list(values) -> str:
    return ", ".join(map(str, values))


def _table(
    caption: str,
    headers: Sequence[str],
    body: Sequence[Sequence[str]],
    *,
    kind: str,
    note: str = "",
) -> str:
    """Make a table of markup cells; the first cell of each row is its header.

    On a phone, each row of ``columns`` becomes a small grid, in which each cell shows its header.
    """
    head = "".join(f'<th scope="col">{text}</th>' if text else "<td></td>" for text in headers)
    rows = [
        f'<tr><th scope="row">{first}</th>'
        + "".join(
            f'<td data-header="{header}">{cell}</td>'
            for header, cell in zip(headers[1:], cells, strict=True)
        )
        + "</tr>"
        for first, *cells in body
    ]
    return "\n".join(
        [
            f'<div class="card"><div class="wide"><table class="{kind}">',
            f"<caption>{_text(caption)}</caption>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *rows,
            "</tbody></table></div>",
            f'<p class="quiet">{_text(note)}</p></div>' if note else "</div>",
        ]
    )


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Make the charts for which the history has values."""
    charts = [
        ("Training loss", [_curve(history, "train", "loss", "loss")]),
        ("Validation loss", [_curve(history, "validation", "loss", "loss")]),
        ("Validation metric, percent", _validation_curves(history)),
        ("Learning rate", [_curve(history, "train", "learning_rate", "learning rate")]),
    ]
    lines, last_step = [], max((record["step"] for record in history), default=0)
    for title, curves in charts:
        curves = [c for c in curves if any(value is not None for value in c.values)]
        if not curves:
            continue
        keys = "".join(
            f'<span class="key curve{number % 4}"><span>{_text(curve.name)}</span></span>'
            for number, curve in enumerate(curves)
        )
        lines += [
            f'<figure class="card">\n<h3>{title}</h3>',
            line_chart(
                curves,
                last_step=last_step,
                label=f"{title} by step; {_ends(curves)}",
            ),
            f"<figcaption>{keys if len(curves) > 1 else ''}{_text(_ends(curves[:1]))}</figcaption>",
            "</figure>",
        ]
    if not lines:
        return ""
    heading = '<section>\n<h2>Training</h2>\n<p class="quiet">Horizontal axes: optimizer steps.</p>'
    return "\n".join([heading, '<div class="charts">', *lines, "</div>\n</section>"])


def _curve(history, kind: str, key: str, name: str) -> Curve:
    records = [r for r in history if r.get("kind") == kind and key in r]
    return Curve(name, [r["step"] for r in records], [r[key] for r in records])


def _validation_curves(history) -> list[Curve]:
    """Return curves of the run's validation metric and, if there are several rows, their totals.

    The list is empty if the metric is the loss, which has its own chart.
    """
    records = [r for r in history if r.get("kind") == "validation"]
    if any(r.get("steered_by") == LOSS for r in records):
        return []
    curves = [_curve(history, "validation", "metric", "validation metric")]
    names = list(dict.fromkeys(name for r in records for name in r.get("rows", {})))
    protocols = [p for r in records[-1:] for found in r.get("rows", {}).values() for p in found]
    if len(names) < 2 or not protocols:
        return curves
    protocol = records[-1].get("steered_by")
    if protocol not in protocols:
        protocol = protocols[0]
    for name in names:
        totals = [r.get("rows", {}).get(name, {}).get(protocol, {}).get("total") for r in records]
        curves.append(Curve(f"{name}, {protocol}", [r["step"] for r in records], totals))
    return curves


def _ends(curves: Sequence[Curve]) -> str:
    """Describe each curve by its first, last, lowest and highest value."""
    parts = []
    for curve in curves:
        values = [value for value in curve.values if value is not None]
        parts.append(
            f"{curve.name}: first {values[0]:.4g}, last {values[-1]:.4g}, "
            f"lowest {min(values):.4g}, highest {max(values):.4g}"
        )
    return "; ".join(parts)


def _sections(*groups: Sequence[Section]) -> list[str]:
    """Convert each group of sections to markup with inlined images."""
    panels = [panel for sections in groups for section in sections for panel in section.panels]
    photos = iter(_photos([image.image for panel in panels for image in panel.images]))
    numbers = itertools.count()
    return [
        "\n".join(_section(section, photos, numbers) for section in sections) for sections in groups
    ]


def _section(section: Section, photos: Iterator[str], numbers: Iterator[int]) -> str:
    kind = "panels small" if section.width < SMALL_PANEL_WIDTH else "panels"
    lines = [f"<section>\n<h2>{_text(section.title)}</h2>"]
    if section.text:
        lines.append(f"<p>{_text(section.text)}</p>")
    lines.append(f'<div class="{kind}" style="--panel: {section.width}px">')
    for panel in section.panels:
        lines.append(_panel(panel, section.has_main_image, photos, next(numbers)))
    return "\n".join([*lines, "</div>\n</section>"])


def _panel(panel: Panel, has_main_image: bool, photos: Iterator[str], number: int) -> str:
    """Make a figure, and a popover that shows it enlarged, with references to the same images."""
    shown, enlarged = [], []
    for place, image in enumerate(panel.images):
        height, width = image.image.shape[:2]
        start = (
            f'<span><svg viewBox="0 0 {width} {height}" role="img" aria-label="{_text(image.alt)}">'
        )
        name, end = f"image{number}_{place}", f"</svg>{_text(image.label)}</span>"
        shown.append(f'{start}<g id="{name}">{next(photos)}{image.overlay}</g>{end}')
        enlarged.append(f'{start}<use href="#{name}"/>{end}')
    kind = "images" + " main" * has_main_image + " many" * (len(panel.images) >= MANY)
    caption = _text(panel.caption)
    return "\n".join(
        [
            f'<figure class="card panel">\n<div class="{kind}">',
            *shown,
            f"</div>\n<figcaption>{caption}</figcaption>",
            f'<button type="button" class="enlarge" popovertarget="large{number}" '
            f'aria-label="Enlarge {caption}"></button>',
            f'<div popover="auto" class="large" id="large{number}" role="dialog" '
            f'aria-label="{caption}">\n<p>{caption} <button type="button" '
            f'popovertarget="large{number}" popovertargetaction="hide">Close</button></p>',
            f'<div class="{kind}">',
            *enlarged,
            "</div>\n</div>\n</figure>",
        ]
    )


def _photos(images: Sequence[np.ndarray]) -> list[str]:
    """Make an SVG element for each image; repeated arrays become references."""
    distinct = {id(image): image for image in images}
    encoded = dict(zip(distinct, _encoded(list(distinct.values())), strict=True))
    number = {key: place for place, key in enumerate(distinct)}
    elements, seen = [], set()
    for image in images:
        name = f"photo{number[id(image)]}"
        if name in seen:
            elements.append(f'<use href="#{name}"/>')
            continue
        seen.add(name)
        height, width = image.shape[:2]
        elements.append(
            f'<image id="{name}" width="{width}" height="{height}" href="{encoded[id(image)]}"/>'
        )
    return elements


def _encoded(images: Sequence[np.ndarray]) -> list[str]:
    """Encode images as data URIs, at the first quality at which all are small enough."""
    pil = import_optional("PIL.Image", extra="train")
    for quality in QUALITIES:
        files = []
        for image in images:
            file = io.BytesIO()
            pil.fromarray(np.ascontiguousarray(image)).save(file, "WEBP", quality=quality)
            files.append(file.getvalue())
        if sum(map(len, files)) <= MAX_IMAGE_BYTES:
            break
    return [f"data:image/webp;base64,{base64.b64encode(file).decode()}" for file in files]


def _notes(notes: Sequence[tuple[str, str]]) -> str:
    items = "\n".join(f"<dt>{_text(term)}</dt><dd>{_text(text)}</dd>" for term, text in notes)
    if not items:
        return ""
    return f'<section>\n<h2>Details</h2>\n<dl class="card">\n{items}\n</dl>\n</section>'
