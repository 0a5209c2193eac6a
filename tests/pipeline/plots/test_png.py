"""PNG figures of names in any script."""

import warnings

from pipeline.plots import png


def test_names_that_no_font_has_are_drawn_without_a_warning() -> None:
    figure, axes = png.new()
    axes.set_title("正面, ᠮᠣᠩᠭᠣᠯ, $5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png.encoded(figure).startswith(b"\x89PNG")
