"""SVG figures that take their colours and fonts from the page.

Text stays text, colours are CSS variables, IDs are unique to the figure, and the same numbers give
the same bytes.
"""

import io
import re
import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.plots.palette import INK, QUIET, ROLES, RULE

P = ParamSpec("P")
WIDTH = 440  # user units, which are CSS pixels at full size
FONT_SIZE = 12.5  # in the same units
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may hold $
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE - 1,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


def drawn(draw: Callable[P, Figure]) -> Callable[P, str]:
    """Decorator: draw in the report's style and return the figure as SVG."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> str:
        style = STYLE | {"svg.hashsalt": draw.__name__}
        with rc_context(style), warnings.catch_warnings():  # type: ignore[arg-type]
            # glyphs missing in Matplotlib's fonts are drawn by the page's fonts
            warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
            return _svg(draw(*args, **kwargs))

    return inner


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r" ?font-family: [^;\"]*;?", "", text)
    for colour, role in ROLES.items():
        text = text.replace(colour, f"var(--{role})")
    head = re.search(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', text)
    if head is None:
        raise ValueError("matplotlib wrote no <svg>")
    return f'<svg viewBox="{head[1]}" aria-hidden="true">{text[head.end() :].strip()}'


def new(height: float) -> tuple[Figure, Axes]:
    """Return a new figure and its axes; `height` is in the units of WIDTH."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    return figure, figure.subplots()
