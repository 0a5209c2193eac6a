"""PNG figures in the project's style. The same numbers and fonts give the same bytes."""

import io
import warnings
from pathlib import Path

import matplotlib

from pipeline.core.files import atomic_write

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a label may hold $
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

MOST_NAMES = 15  # a figure of more classes or curves does not name each
LARGEST = 40.0  # inches of a side: 4,800 pixels
FONTS = (  # that have the characters of names in other scripts, if they are installed
    *("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "SimHei", "Arial Unicode MS"),
    *("Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Hebrew", "Noto Sans Thai"),
)
INSTALLED = set(fontManager.get_font_names())
matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(f for f in FONTS if f in INSTALLED)]


def new(width: float = 6, height: float = 4.5) -> tuple[Figure, Axes]:
    """Return a new figure of this size in inches, at most LARGEST, and its axes."""
    size = (min(width, LARGEST), min(height, LARGEST))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file atomically, and close it."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded(figure))


def encoded(figure: Figure) -> bytes:
    """Encode a figure as PNG, and close it."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # characters that no installed font has are boxes here; the report has them as text
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()
