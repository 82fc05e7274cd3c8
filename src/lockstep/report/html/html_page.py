"""A page of HTML that is one file: text, tables, pictures, and plotly's figures with its script inlined."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from plotly.offline import get_plotlyjs

from lockstep.report.figures.figure_style import ORANGE

GREY, GRID = "#888888", "rgba(128,128,128,0.25)"
"""Of text and lines in figures, which do not change with the theme: they can be read on white and black."""
STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --faint: #ddd; --soft: #777; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #161616; --faint: #444; --soft: #999; } }
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif;
       max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid var(--faint); padding: .25rem .8rem .25rem 0; text-align: left;
         font-variant-numeric: tabular-nums; vertical-align: top; }
.drawn { overflow-x: auto; } pre { font-size: .8rem; overflow-x: auto; }
th { color: var(--soft); font-weight: normal; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; width: 112px; }
figure img { width: 112px; height: 112px; object-fit: contain; image-rendering: pixelated; }
figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
"""
AXIS = {"gridcolor": GRID, "zerolinecolor": GRID, "zerolinewidth": 2, "ticks": "", "automargin": True}
THEME = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": GREY, "family": "system-ui, sans-serif"},
    "margin": {"l": 70, "r": 20, "t": 60, "b": 50},
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": ORANGE},
    "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},  # a narrow page has no room beside
    "xaxis": {**AXIS, "title": {"standoff": 15}},
    "yaxis": {**AXIS, "title": {"standoff": 15}},
}
"""What plotly.js takes for what a figure's layout does not say."""
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d"],
}
"""Nothing is uploaded from a report, and there is nothing to select."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The browser itself keeps the page from the network."""


def page(title: str, parts: Sequence[str]) -> str:
    """The whole page, of parts that are HTML already."""
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
            f"<script>{get_plotlyjs()}</script></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def section(title: str, *parts: str) -> str:
    """A heading and what stands below it; empty if nothing does."""
    content = "\n".join(part for part in parts if part)
    return f"<h2>{html.escape(title)}</h2>\n{content}" if content else ""


def paragraph(text: str) -> str:
    """A line of text."""
    return f"<p>{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    """Lines of text in a fixed width."""
    return f"<pre>{html.escape(text)}</pre>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; empty without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def named_values(values: Mapping[str, object]) -> str:
    """A table of names and values."""
    return table(("", ""), list(values.items()))


def pictures(images: Sequence[Image.Image], captions: Sequence[str]) -> str:
    """Pictures with captions, within the page."""
    figures = []
    for image, caption in zip(images, captions, strict=True):
        buffer = io.BytesIO()
        image.save(buffer, format="png")
        source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        text = html.escape(caption)
        figures.append(f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>')
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""


def drawn(figure: Mapping[str, Any]) -> str:
    """A figure whose values can be read with the mouse: data and layout, as plotly.js takes them."""
    layout = {"template": {"layout": THEME}, **figure["layout"]}
    text = json.dumps({"data": figure["data"], "layout": layout, "config": CONFIG})
    text = text.replace("<", "\\u003c")  # a name cannot end the script
    draw = f"Plotly.newPlot(document.currentScript.previousElementSibling, {text})"
    return f'<div class="drawn"><div></div><script>{draw}</script></div>'
