"""Figures are labelled correctly for every task."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pipeline.plots import png
from pipeline.stages.evaluate import figures as pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = png.save

    def kept(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(png, "save", kept)
    return figures


def test_a_confusion_names_its_classes_in_order_and_nothing_last(
    drawn: list[Figure], tmp_path: Path
) -> None:
    found = {"": {"PER": 4}, "PER": {"PER": 5, "": 2, "LOC": 3}, "$\\frac{$": {"PER": 1}}
    pictures.confusion(found, tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    names = ["$\\frac{$", "LOC", "PER", "nothing"]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [text.get_text() for text in axes.texts] == [
        *("0", "0", "1", "0"),
        *("0", "0", "0", "0"),
        *("0", "3", "5", "2"),
        *("0", "0", "4", "0"),
    ]
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_curves_show_the_first_metric_whatever_its_name(
    drawn: list[Figure], tmp_path: Path
) -> None:
    training, validation = tmp_path / "training.csv", tmp_path / "validation.csv"
    training.write_text("step,loss\n1,1.0\n2,0.5\n")
    validation.write_text("step,loss,spearman,pearson\n1,0.6,-0.2,0.1\n2,0.5,0.3,0.2\n")
    pictures.curves(training, validation, tmp_path / "curves.png")
    left, right = drawn[0].axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("loss", "spearman")
    assert right.get_ylim()[0] == pytest.approx(-0.2)
