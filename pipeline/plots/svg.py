"""SVG figures for pages, which take their colours and letters from the page.

Text stays text, colours are CSS variables, names of parts are the figure's own, and the same
numbers give the same bytes.
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
LETTER = 12.5  # height of letters, in the same units
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may hold $
    "font.size": LETTER,
    "axes.titlesize": LETTER,
    "legend.fontsize": LETTER - 1,
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
    """Draw in the report's style and give the figure as SVG."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> str:
        style = STYLE | {"svg.hashsalt": draw.__name__}
        with rc_context(style), warnings.catch_warnings():  # type: ignore[arg-type]
            # the page's fonts draw what matplotlib's cannot measure
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
    """`height` in the units of WIDTH."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    return figure, figure.subplots()
