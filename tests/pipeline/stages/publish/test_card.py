"""The model card's metadata is readable by other parsers, and its tables escape any label."""

from itertools import pairwise

import pytest
from huggingface_hub import ModelCard

from pipeline import tasks
from pipeline.core.records import Benchmark, Export, Fit, Lengths, Scores
from pipeline.stages.publish import card
from pipeline.stages.publish.card import model_card
from pipeline.stages.publish.records import Records
from pipeline.tasks.base import Task
from pipeline.tasks.classification import Classification
from tests.pipeline.report.records import (
    AVERAGE,
    DIGEST,
    Kind,
    answers,
    behaviour,
    emotions,
    fit,
    intake,
    lengths,
    runtimes,
    scores,
    spans,
    validation,
)

LABELS = ["film", "mon|ey\n# not a heading", "<b>sport</b> [x](y) `z`"]
FILES = {"model_quantized.onnx": DIGEST, "tokenizer.json": DIGEST[::-1]}


CLASSIFICATION = tasks.get("classification")


class Stretches(Classification):
    display_name = "Question answering"
    exclusive = False
    two_texts = True


class Marks(Classification):
    display_name = "Token classification"
    exclusive = False


def written(
    made_by: Fit | None = None,
    labels: list[str] | None = None,
    found: Scores | None = None,
    task: Task = CLASSIFICATION,
    measured: Benchmark | None = None,
    read: Lengths | None = None,
) -> str:
    labels = LABELS if labels is None else labels
    return model_card(
        "toy",
        "Sorts toys.",
        task,
        DIGEST,
        Records(
            intake(),
            validation(labels),
            read or lengths(),
            made_by or fit(),
            found or scores(labels),
            Export(parities=[]),
            measured or runtimes(),
        ),
        FILES,
    )


def written_of(kind: Kind, task: Task) -> str:
    return written(
        kind["fit"], kind["labels"], kind["scores"], task, kind["benchmark"], kind.get("lengths")
    )


def cells(line: str) -> list[str]:
    """Return the cells of a table's row, as Markdown splits them."""
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
    made = Records(
        odd,
        validation(LABELS),
        lengths(),
        fit(),
        scores(LABELS),
        Export(parities=[]),
        runtimes(),
    )
    text = model_card("toy", "x", CLASSIFICATION, DIGEST, made, {})
    assert ModelCard(text).data.eval_results[0].dataset_name == 'a "b": c --- # d: {e}'


def test_served_files_stand_with_their_digests() -> None:
    text = written()
    for name, digest in FILES.items():
        assert f"| {name} | {digest} |" in text.replace("\\_", "_")


def test_time_and_energy_are_estimates_that_can_be_worked_out_again() -> None:
    text = written()
    tokens = 700 * card._mean_tokens(lengths())
    joules = 6 * 22e6 * tokens * 2 * card.CPU_JOULES
    assert f"{joules / 1e3:.2g} kJ" in text
    assert "order of magnitude for a processor; nothing was metered" in text
    assert f"{3 * 700 * 2 / 80:.0f} s" in text  # 80 texts a second, by the runtimes


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


def test_one_class_of_several_is_told_as_such() -> None:
    text = written(labels=["film", "money"])
    assert "Sorts a text into one of 2 classes: film, money. Meant" in text
    assert "also one of no known class" in text
    assert "| this one, in PyTorch | 0.9123 \\[0.9023, 0.9223\\] | 0.9045 \\[" in text
    assert "Besides: area under ROC 0.9900, expected calibration error 0.034." in text


def test_a_task_without_classes_has_a_card_without_them() -> None:
    text = written_of(answers(), Stretches())
    told = ModelCard(text).data.to_dict()
    assert told["pipeline_tag"] == "question-answering"
    assert told["tags"] == ["question-answering", "onnx", "bertline"]
    assert told["metrics"] == ["exact_match", "f1"]
    result = ModelCard(text).data.eval_results[0]
    assert (result.task_type, result.task_name) == ("question-answering", "Question answering")
    assert (result.metric_name, result.metric_value) == ("exact match", 0.7812)
    assert "Question answering for a pair of texts, with no fixed list of answers." in text
    assert "are read in windows of 64 tokens: so were\n5.0% of the test rows" in text
    assert "| model | exact match | F1 |" in text
    assert "| slice | test rows | exact match |" in text
    assert "speed-up | exact match | flips |" in text
    assert "Besides: exact match of answerable 0.8021, answerable rows 1,532." in text
    assert "class" not in text
    assert "calibration" not in text


def test_classes_that_a_text_can_have_several_of_are_told_as_such() -> None:
    text = written_of(spans(), Marks())
    assert "Token classification: finds in a text none, one or several of 4 classes: LOC," in text
    assert "also one unlike all that it learned from" in text
    assert "| PER | 0.900 | 0.900 | 0.900 | 412 |" in text
    assert ModelCard(text).data.eval_results[0].metric_type == "f1"


def test_texts_cut_in_their_middle_are_told_so() -> None:
    text = written(read=lengths().model_copy(update={"long_text": "head_tail"}))
    assert "Long texts are cut to 64 tokens of their beginning and end: so were\n5.0%" in text


def test_where_few_weights_are_trained_the_card_says_so_and_counts_less_work() -> None:
    text = written_of(emotions(), Marks())
    assert "(22.0 M parameters, 1.34% of them trained, 2.0 epochs in fp32)" in text
    assert "(4 × 22,000,000 + 2 × 294,912) ×" in text
    work = (4 * 22e6 + 2 * 294_912) * 700 * card._mean_tokens(lengths()) * 2
    assert f"| operations | {work:.1e} |" in text
    assert ModelCard(text).data.to_dict()["metrics"] == ["f1", "exact_match"]


def test_windows_are_counted_as_work() -> None:
    pieces = {"train": 1400, "validation": 200, "test": 400}
    read = lengths().model_copy(update={"long_text": "windows", "pieces": pieces})
    text = written(read=read)
    tokens = 700 * card._mean_tokens(read)
    assert f"× {tokens:,.0f} × 2.0" in text
    assert tokens > 700 * card._mean_tokens(lengths())
    assert "3 × windows of training rows × epochs / 80 texts" in text
    assert f"{3 * 1400 * 2 / 80:.0f} s" in text


def test_sixty_classes_and_no_slices_make_a_card() -> None:
    labels = [f"class {i}" for i in range(60)]
    text = written(labels=labels, found=scores(labels, slices=()))
    assert "| class 59 |" in text
    assert "## Slices" not in text


def test_two_thousand_classes_make_a_card_that_can_be_read() -> None:
    labels = [f"code {i:04d}" for i in range(2_000)]
    per_class = {label: {**AVERAGE, "rows": 3.0} for label in labels}
    per_class["code 1234"] |= {"f1": 0.0}
    text = written(labels=labels, found=scores(labels, per_class=per_class))
    assert "one of 2,000 classes: code 0000, " in text
    assert " and 1,900 more." in text
    assert f"The {card.MOST_CLASSES} of 2,000 classes with the most mistakes:" in text
    assert "| code 1234 | " in text
    assert len(text) < 20_000
