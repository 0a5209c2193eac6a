"""Columns and tasks that `bertline new` finds by names and by what cells hold."""

import json
import random
from pathlib import Path

import pytest

from flows.cli import main
from flows.cli.proposals import sampling
from pipeline import recipe as parsed
from pipeline.core.config import read_recipe
from pipeline.core.errors import UserError
from tests.conftest import make_rows, news_params
from tests.flows.cli.proposals.files import found, lines, table, texts, told
from tests.pipeline.sources.test_shapes import workbook

ROWS = [(r["text"], r["label"]) for r in make_rows(120)]
TEXTS = [text for text, _ in ROWS]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(news_params())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_sorted_by_its_label_has_all_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ROWS", 60)
    monkeypatch.setattr(sampling, "FIRST", 10)
    rows = sorted(ROWS, key=lambda row: row[1])
    file = table("a.csv", ["text", "label"], rows)
    assert found(file) == ("classification", {"text": "text", "label": "label"})
    assert "60 of 120 rows are looked at" in told(file)
    assert "3 classes" in told(file)


@pytest.mark.parametrize(
    ("text", "label"),
    [("评论", "情感"), ("avis", "catégorie"), ("kommentar", "kategorie"), ("Review", "Sentiment")],
)
def test_names_of_columns_in_other_languages(text: str, label: str) -> None:
    rows = [(n, k % 2, a, b) for n, (a, b) in enumerate(ROWS) for k in (n // 7,)]
    file = table("a.csv", ["id", "zone", text, label], rows)
    assert found(file) == ("classification", {"text": text, "label": label})


@pytest.mark.parametrize("header", [("q1", "q2"), ("left", "right"), ("句子1", "句子2")])
def test_names_that_differ_by_a_number_are_a_pair(header: tuple[str, str]) -> None:
    rows = [(a, f"{a} twice", n % 2) for n, a in enumerate(TEXTS)]
    task, ingest = found(table("a.csv", [*header, "label"], rows))
    assert (task, ingest["text"], ingest["second"]) == ("pair", *header)


def test_a_task_of_two_texts_takes_the_only_other_text_or_asks() -> None:
    rows = [(a, f"{a} twice", n % 2) for n, a in enumerate(TEXTS)]
    file = table("a.csv", ["title", "body", "label"], rows)
    assert found(file, "pair")[1]["second"] in ("title", "body")
    rows = [(*row[:2], f"{row[0]} thrice", row[2]) for row in rows]
    file = table("b.csv", ["title", "body", "foot", "label"], rows)
    with pytest.raises(UserError, match=r"pair reads two texts: name the other by --second \("):
        found(file, "pair")


@pytest.mark.parametrize(
    ("header", "group"),
    [(("qid", "query", "passage", "relevance"), "qid"), (("x", "query", "doc", "grade"), "query")],
)
def test_queries_with_graded_candidates_are_a_ranking(header: list[str], group: str) -> None:
    rows = [(n // 5, f"query {n // 5}", a, n % 3) for n, a in enumerate(TEXTS)]
    task, ingest = found(table("a.csv", header, rows))
    assert task == "ranking"
    assert (ingest["text"], ingest["second"]) == (header[1], header[2])
    assert (ingest["label"], ingest["group"]) == (header[3], group)


def test_a_query_a_document_and_a_class_are_a_pair_if_no_query_recurs() -> None:
    rows = [(f"query {n}", a, n % 2) for n, a in enumerate(TEXTS)]
    assert found(table("a.csv", ["query", "document", "label"], rows))[0] == "pair"


@pytest.mark.parametrize("header", [("en", "de"), ("source", "target"), ("text_en", "text_fr")])
def test_columns_of_languages_are_a_translation(header: tuple[str, str]) -> None:
    rows = [(a, f"{a} übersetzt") for a in TEXTS]
    task, ingest = found(table("a.csv", header, rows))
    assert (task, ingest["text"], ingest["label"]) == ("translation", *header)


def test_texts_of_two_scripts_are_a_translation() -> None:
    draw = random.Random(0)
    rows = [(a, "".join(draw.choices("这家酒店的房间很干净服务员热情", k=20))) for a in TEXTS]
    assert found(table("a.csv", ["original", "other"], rows))[0] == "translation"


def test_labels_beside_two_languages_are_no_translation() -> None:
    rows = [(a, f"{a} übersetzt", b) for a, b in ROWS]
    assert found(table("a.csv", ["en", "de", "topic"], rows))[0] != "translation"


def test_two_texts_without_a_label_are_no_corpus() -> None:
    file = table("a.csv", ["question", "answer"], [(a, f"{a} indeed") for a in TEXTS])
    with pytest.raises(UserError, match=r"--label \(answer\), or take --task masked_lm"):
        found(file)
    assert found(file, "masked_lm")[1] == {"text": "question"}
    file = table("b.csv", ["id", "title", "body"], [(n, a[:9], a) for n, a in enumerate(TEXTS)])
    assert found(file) == ("masked_lm", {"text": "body"})


def test_questions_with_one_answer_each() -> None:
    records = [{"question": f"{n}?", "context": a, "answer": a[:n]} for n, a in enumerate(TEXTS, 1)]
    task, ingest = found(lines("a.jsonl", records))
    assert (task, ingest["second"], ingest["label"]) == (
        "question_answering",
        "context",
        "answer",
    )


def test_questions_on_one_context_stay_in_one_split() -> None:
    records = [
        {"question": f"{n}?", "context": TEXTS[n // 4], "answers": [TEXTS[n // 4][:4]]}
        for n in range(120)
    ]
    assert found(lines("a.jsonl", records))[1]["group"] == "context"


def test_authors_with_several_rows_stay_in_one_split() -> None:
    rows = [(f"u{n % 40}", a, b) for n, (a, b) in enumerate(ROWS)]
    assert found(table("a.csv", ["user_id", "text", "label"], rows))[1]["group"] == "user_id"
    rows = [(f"u{n}", a, b) for n, (a, b) in enumerate(ROWS)]
    assert "group" not in found(table("b.csv", ["user_id", "text", "label"], rows))[1]
    rows = [("one" if n < 90 else f"u{n}", a, b) for n, (a, b) in enumerate(ROWS)]
    assert "group" not in found(table("c.csv", ["user_id", "text", "label"], rows))[1]


def test_a_published_split_has_no_group() -> None:
    splits = ("train", "dev", "test")
    rows = [(f"u{n % 40}", a, b, splits[n % 3]) for n, (a, b) in enumerate(ROWS)]
    ingest = found(table("a.csv", ["user_id", "text", "label", "split"], rows))[1]
    assert "group" not in ingest


def test_of_numbers_and_their_names_the_names_are_the_label() -> None:
    rows = [(a, n % 2, ("neg", "pos")[n % 2]) for n, a in enumerate(TEXTS)]
    assert found(table("a.csv", ["text", "label", "label_text"], rows))[1]["label"] == "label_text"
    rows = [(a, n % 2, b) for n, (a, b) in enumerate(ROWS)]
    assert found(table("b.csv", ["text", "label", "label_text"], rows))[1]["label"] == "label"


def test_numbers_of_many_classes_begin_at_0_or_1() -> None:
    rows = [(f"{a} {n}", n % 30) for n, a in enumerate(TEXTS)]
    assert found(table("a.csv", ["text", "label"], rows))[0] == "classification"
    rows = [(a, 18 + n) for a, n in rows]
    assert found(table("b.csv", ["text", "age"], rows), label="age")[0] == "regression"


def test_classes_in_a_hierarchy_are_single() -> None:
    rows = [(a, f"{'xyz'[n % 3]}/{n % 4}") for n, a in enumerate(TEXTS)]
    assert found(table("a.csv", ["text", "category"], rows)) == (
        "classification",
        {"text": "text", "label": "category"},
    )


def test_numbers_of_classes_are_named_by_a_file_beside() -> None:
    rows = [(a, n % 3) for n, a in enumerate(TEXTS)]
    file = table("mails/a.csv", ["text", "label"], rows)
    texts("mails/labels.txt", "sport\nmoney\n")
    assert "label_names" not in found(file)[1]  # two names for three numbers
    texts("mails/labels.txt", "sport\nmoney\nfilm\n")
    assert found(file)[1]["label_names"] == "mails/labels.txt"
    assert main.main(["new", "mine", file]) == 0
    parsed.load("mine")


def test_tags_that_are_numbers_need_their_names() -> None:
    records = [{"tokens": ["Ann", f"sings{n}"], "ner_tags": [1, 0]} for n in range(30)]
    file = lines("a.jsonl", records)
    with pytest.raises(UserError, match=r"its tags are numbers: name them by --label-names"):
        found(file)
    texts("x/tags.txt", "O\nB-PER\n")
    assert found(lines("x/a.jsonl", records))[1]["label_names"] == "x/tags.txt"
    texts("other.txt", "O\nB-PER\n")
    assert found(file, label_names="other.txt")[0] == "ner"


def test_tagged_tokens_are_known_by_their_lines() -> None:
    one = texts("a.txt", "".join(f"Ann sings {n} songs\tB-PER O O O\n" for n in range(30)))
    assert (found(one)[0], found(one)[1]["format"]) == ("ner", "tagged_lines")
    two = texts("a.tsv", "".join(f"# source\n1\tAnn{n}\tB-PER\tO\n\n" for n in range(30)))
    assert (found(two)[0], found(two)[1]["format"]) == ("ner", "conll")
    three = table("b.csv", None, [("Ann", "B-PER"), ("sings", "O")] * 30)
    with pytest.raises(UserError, match="has a token in each row, and no column of tokens"):
        found(three)


def test_a_table_of_tokens_is_known_by_its_tags() -> None:
    rows = []
    for n in range(60):
        words = [f"Ann{n}", "sings", "in", "Örebro"]
        tags = ["B-per", "O", "O", "B-geo"]
        rows += [
            (f"Sentence: {n}" if i == 0 else "", *each)
            for i, each in enumerate(zip(words, ["NNP", "VBZ", "IN", "NNP"], tags, strict=True))
        ]
    content = "".join(",".join(row) + "\n" for row in [("Sentence #", "Word", "POS", "Tag"), *rows])
    Path("ner_dataset.csv").write_text(content, encoding="cp1252")
    assert found("ner_dataset.csv") == (
        "ner",
        {"encoding": "cp1252", "format": "token_rows", "text": "text", "label": "label"},
    )
    assert "token_rows: a token and its tag in each row, 'Word', 'Tag', 'Sentence #'" in told(
        "ner_dataset.csv"
    )
    assert main.main(["new", "names", "ner_dataset.csv"]) == 0
    assert parsed.load("names").ingest.format == "token_rows"


def test_a_sheet_of_tokens_is_a_recipe_for_named_entities(home: Path) -> None:
    rows: list[list[str | float | bool | None]] = [["sentence_id", "words", "labels"]]
    for n in range(40):
        rows += [[n, "Ann", "B-PER"], [n, "waves", "O"], [n, n, "O"]]
    workbook(home / "people.xlsx", rows)
    assert main.main(["new", "people", "people.xlsx"]) == 0
    recipe = parsed.load("people")
    assert (recipe.task, recipe.ingest.format) == ("ner", "token_rows")
    assert (recipe.ingest.text, recipe.ingest.label) == ("text", "label")


@pytest.mark.parametrize(("last", "sentences"), [("", 9), ('9\t"\tO\n', 10)])
def test_quotes_among_tokens_are_tokens(last: str, sentences: int) -> None:
    words = [("Ann", "B-PER"), ("says", "O"), ('"', "O"), ("yes", "O"), ('"', "O")]
    rows = "".join(f"{n}\t{word}\t{tag}\n" for n in range(9) for word, tag in words)
    file = texts("a.tsv", f"sentence\tword\ttag\n{rows}{last}")
    assert found(file)[1]["quotes"] is False
    assert f": {sentences} rows are few" in told(file)


def test_classes_that_look_like_tags_are_classes() -> None:
    rows = [(text, "O" if n % 2 else "AB") for n, text in enumerate(TEXTS)]
    assert found(table("a.csv", ["text", "label"], rows))[0] == "classification"
    rows = [(text, "O", label) for text, label in ROWS]
    assert found(table("b.csv", ["text", "state", "label"], rows))[0] == "classification"


def test_documents_of_spacy_are_named_entities() -> None:
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import DocBin

    saved = DocBin()
    for n in range(30):
        doc = spacy.blank("en")(f"Ann{n} sings in Oslo")
        doc.set_ents([doc.char_span(0, 3 + len(str(n)), "PERSON")], default="outside")
        saved.add(doc)
    saved.to_disk("names.spacy")
    assert found("names.spacy") == ("ner", {"text": "text", "label": "label"})
    assert main.main(["new", "names", "names.spacy"]) == 0
    assert parsed.load("names").task == "ner"


def test_a_folder_of_brat_is_known_by_its_annotations() -> None:
    for n in range(30):
        texts(f"notes/{n % 3}/{n}.txt", f"Ann{n} sings in Oslo")
        texts(f"notes/{n % 3}/{n}.ann", f"T1\tPER 0 {3 + len(str(n))}\tAnn{n}\n")
    task, ingest = found("notes")
    assert (task, ingest["format"], ingest["label"]) == ("ner", "brat", "label")
    assert "brat: texts with annotations of the same names" in told("notes")
    assert main.main(["new", "notes", "notes"]) == 0
    assert parsed.load("notes").ingest.format == "brat"


def test_dates_under_the_name_of_a_label_are_its_classes() -> None:
    rows = [(a, f"2024-0{n % 3 + 1}-05") for n, a in enumerate(TEXTS)]
    assert found(table("a.csv", ["text", "label"], rows))[0] == "classification"
    with pytest.raises(UserError, match="no column"):
        found(table("b.csv", ["text", "second_text", "day"], [(a, a[::-1], b) for a, b in rows]))


def test_unlabelled_rows_are_no_class() -> None:
    records = [{"text": a, "label": [b] if n % 9 else []} for n, (a, b) in enumerate(ROWS)]
    file = lines("a.jsonl", records)
    assert found(file)[0] == "classification"
    assert "3 classes: " in told(file)


def test_objects_are_no_texts() -> None:
    file = lines("a.jsonl", [{"translation": {"en": a, "fr": a}} for a in TEXTS])
    with pytest.raises(UserError, match=r"name it by --text \(translation\)$"):
        found(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n", "a.csv: holds no rows"),
        ("text,label\n" + "one\n" * 9 + "a,b\n", "only 1 of 10 rows can be read"),
        ("text,label\n" + "one\n" * 9, "line 2: has 1 fields .+ none of 9 rows can be read"),
    ],
)
def test_files_that_hold_little_are_one_line(content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(texts("a.csv", content))


def test_long_texts_get_a_greater_length(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"{a} " * (40 if n % 4 else 1), b) for n, (a, b) in enumerate(ROWS)]
    assert main.main(["new", "mine", table("a.csv", ["text", "label"], rows)]) == 0
    assert read_recipe("mine")["tokenize"]["max_length"] == 256
    out = capsys.readouterr().out
    assert "tokenize.max_length 256: 75% of the texts have more than 128 tokens, 75% more" in out
    rows = [(f"{a} " * (40 if n % 12 == 0 else 1), b) for n, (a, b) in enumerate(ROWS)]
    assert main.main(["new", "other", table("b.csv", ["text", "label"], rows)]) == 0
    assert read_recipe("other")["tokenize"]["max_length"] == 128


def test_the_name_comes_from_the_file_and_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    file = table("data/news.csv", ["text", "label"], ROWS)
    assert main.main(["new", file]) == 0
    assert main.main(["new", file]) == 0
    assert read_recipe("news-2")["ingest"]["source"] == file
    assert read_recipe("news-3")["ingest"]["source"] == file
    assert "next: bertline check news-3, then bertline run news-3" in capsys.readouterr().out
    assert main.main(["new", table("films/train.csv", ["text", "label"], ROWS)]) == 0
    assert read_recipe("films")["ingest"]["source"] == "films/train.csv"


def test_options_overrule_what_is_found() -> None:
    rows = [(a, b, b.upper(), n % 3) for n, (a, b) in enumerate(ROWS)]
    file = table("x/a.csv", ["text", "label", "mood", "user"], rows, ";")
    names = texts("x/y/names.txt", "one\ntwo\nthree\n")
    given = ["--label", "user", "--label-names", names, "--delimiter", ";"]
    assert main.main(["new", "mine", file, *given, "--task", "classification"]) == 0
    ingest = read_recipe("mine")["ingest"]
    assert (ingest["label"], ingest["label_names"], ingest["delimiter"]) == (
        "user",
        names,
        ";",
    )
    parsed.load("mine")
    assert read_recipe("mine")["watch"] == "x"


def test_files_that_dvc_cannot_watch_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    file = table("a.csv", ["text", "label"], [(a, n % 2) for n, a in enumerate(TEXTS)])
    names = texts("names.txt", "one\ntwo\n")
    assert main.main(["new", "mine", file, "--label-names", names]) == 2
    assert "a.csv, names.txt: move them into a folder" in capsys.readouterr().err


def test_offsets_are_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    spans = [{"text": f"🎉 Ann sings {n}", "label": [[3, 6, "PER"]]} for n in range(30)]
    file = lines("a.jsonl", spans)
    assert main.main(["new", "mine", file, "--offsets", "utf-16"]) == 0
    assert read_recipe("mine")["ingest"]["offsets"] == "utf-16"
    assert main.main(["new", "other", file, "--offsets", "bytes"]) == 2
    assert "recipes.other.ingest.offsets" in capsys.readouterr().err


def test_nothing_is_written_when_the_rows_cannot_be_examined(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **options: object) -> None:
        raise UserError("the disk is full")

    before = (home / "params.yaml").read_text()
    monkeypatch.setattr("flows.cli.proposals.policies.ingest", fail)
    monkeypatch.setattr("flows.cli.proposals.policies.examined", fail)
    assert main.main(["new", "mine", table("a.csv", ["text", "label"], ROWS)]) == 2
    assert (home / "params.yaml").read_text() == before
    assert not json.loads(json.dumps([str(p) for p in home.glob(".bertline/*/new-*")]))


def test_what_a_copied_recipe_settles_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    file = table("a.csv", ["text", "label"], ROWS)
    before = read_recipe("news")["finetune"]["epochs"]
    assert main.main(["new", "mine", file, "--like", "news"]) == 0
    assert read_recipe("mine")["finetune"]["epochs"] == before
    assert "epochs:" not in capsys.readouterr().out


def test_a_data_set_of_the_hub_keeps_its_address(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    revision = "0" * 40
    folder = home / "hub/datasets--someone--rows/snapshots" / revision
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        table(str(folder / f"{split}.csv"), ["text", "label"], ROWS)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    source = f"hub:someone/rows@{revision}"
    assert main.main(["new", "mine", source]) == 0
    block = read_recipe("mine")
    assert (block["ingest"]["source"], block["ingest"]["split"]) == (source, "split")
    assert block["watch"] == "constraints.txt"
