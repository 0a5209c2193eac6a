"""The model card: its metadata is read by others' parsers, its tables hold whatever a label is."""

from itertools import pairwise

import pytest
from huggingface_hub import ModelCard

from pipeline.records import Fit, Scores
from pipeline.report import card
from pipeline.report.card import model_card
from tests.pipeline.report.conftest import (
    DIGEST,
    behaviour,
    fit,
    intake,
    ladder,
    lengths,
    scores,
    validation,
)

LABELS = ["film", "mon|ey\n# not a heading", "<b>sport</b> [x](y) `z`"]
FILES = {"int8.onnx": DIGEST, "tokenizer.json": DIGEST[::-1]}


def written(
    made_by: Fit | None = None, labels: list[str] | None = None, found: Scores | None = None
) -> str:
    labels = labels or LABELS
    return model_card(
        "toy",
        "Sorts toys.",
        DIGEST,
        intake(),
        validation(labels),
        lengths(),
        made_by or fit(),
        found or scores(labels),
        ladder(),
        FILES,
    )


def cells(line: str) -> list[str]:
    """The cells of a table's row, as Markdown splits them."""
    row, cell, escaped = [], "", False
    for letter in line.strip().strip("|"):
        if letter == "|" and not escaped:
            row.append(cell.strip())
            cell = ""
        else:
            cell += letter
        escaped = letter == "\\" and not escaped
    return [*row, cell.strip()]


def test_the_hubs_parser_reads_the_metadata_and_the_results() -> None:
    parsed = ModelCard(written())
    told = parsed.data.to_dict()
    assert told["library_name"] == "onnx"
    assert told["pipeline_tag"] == "text-classification"
    assert told["metrics"] == ["accuracy", "f1"]
    assert "license" not in told
    assert "language" not in told
    assert parsed.data.model_name == "toy"
    accuracy, macro = parsed.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.9123)
    assert (macro.metric_name, macro.metric_value) == ("macro-F1", 0.9045)
    assert accuracy.dataset_split == "test"
    assert accuracy.task_type == "text-classification"
    assert parsed.text.lstrip().startswith("# toy\n\nSorts toys.")
    again = ModelCard(str(parsed))
    assert again.data.to_dict() == told


def test_a_base_is_metadata_only_where_it_is_the_hubs() -> None:
    assert ModelCard(written()).data.base_model is None
    text = written(fit("hub:google/bert_uncased_L-2_H-128_A-2@abc123"))
    assert ModelCard(text).data.base_model == "google/bert_uncased_L-2_H-128_A-2"
    assert "`hub:google/bert_uncased_L-2_H-128_A-2@abc123`" in text


def test_every_table_keeps_its_columns_whatever_a_label_holds() -> None:
    lines = written().splitlines()
    tables = 0
    for above, line in pairwise(lines):
        if line.startswith("| ---"):
            tables, width = tables + 1, len(cells(above))
            assert len(cells(line)) == width
        elif line.startswith("|") and above.startswith("|"):
            assert len(cells(line)) == width, line
    assert tables == 6
    text = "\n".join(lines)
    assert "mon\\|ey \\# not a heading" in text
    assert "\\<b\\>sport" in text
    assert "\n# not a heading" not in text


def test_a_source_with_quotes_and_dashes_stays_metadata() -> None:
    odd = intake().model_copy(update={"source": 'a "b": c\n---\n# d: {e}'})
    text = model_card(
        "toy", "x", DIGEST, odd, validation(LABELS), lengths(), fit(), scores(LABELS), ladder(), {}
    )
    assert ModelCard(text).data.eval_results[0].dataset_name == 'a "b": c --- # d: {e}'


def test_served_files_stand_with_their_digests() -> None:
    text = written()
    for name, digest in FILES.items():
        assert f"| {name} | {digest} |" in text


def test_time_and_energy_are_estimates_that_can_be_worked_out_again() -> None:
    text = written()
    tokens = 700 * card._mean_tokens(lengths())
    joules = 6 * 22e6 * tokens * 2 * card.CPU_JOULES
    assert f"{joules / 1e3:.2g} kJ" in text
    assert "order of magnitude for a processor; nothing was metered" in text
    assert f"{3 * 700 * 2 / 80:.0f} s" in text  # 80 texts a second, by the ladder


def test_a_training_elsewhere_has_no_estimate_of_its_time() -> None:
    text = written(fit(device="A GPU"))
    assert "order of magnitude for a GPU" in text
    assert "| time |" not in text


def test_mean_tokens_are_of_texts_as_cut() -> None:
    same = dict.fromkeys(lengths().quantiles, 500)
    assert card._mean_tokens(lengths().model_copy(update={"quantiles": same})) == pytest.approx(64)
    assert 18 < card._mean_tokens(lengths()) < 26


def test_behaviour_stands_on_the_card_where_there_is_any() -> None:
    assert "## Behaviour" not in written()
    found = scores(LABELS).model_copy(update={"behaviour": behaviour()})
    text = written(found=found)
    assert "| common | typos | invariance | 40 | 10.0% | 5.0% | broken |" in text
    assert "| common | ci\\|ties | invariance | 0 | 0.0% | 5.0% | no row to change |" in text


def test_sixty_classes_and_no_slices_make_a_card() -> None:
    labels = [f"class {i}" for i in range(60)]
    text = written(labels=labels, found=scores(labels, slices=()))
    assert "| class 59 |" in text
    assert "## Slices" not in text
