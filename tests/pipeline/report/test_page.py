"""The report: whole, safe, alone, the same again, and readable on a phone."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from flows.cli import main
from pipeline.core.errors import UserError
from pipeline.report import page
from pipeline.report.page import build, write
from tests.conftest import ROOT
from tests.pipeline.report.conftest import (
    KINDS,
    Kind,
    MakeHome,
    answers,
    behaviour,
    emotions,
    intake,
    lengths,
    publication,
    scores,
    spans,
    validation,
    verdict,
)

MEGABYTE = 1_000_000
HOSTILE = "<script>alert(1)</script>"
BROKEN_NAME = "\"><img src=x onerror='alert(1)'>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """Parsed page: its tags, their attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def test_the_sections_stand_in_the_order_of_the_stages(make_home: MakeHome) -> None:
    text = build(make_home(), "toy")
    headings = re.findall(r"<h2>(\w+)</h2>", text)
    assert headings == [
        "ingest",
        "validate",
        "tokenize",
        "finetune",
        "evaluate",
        "export",
        "benchmark",
        "gate",
        "publish",
    ]
    assert re.findall(r'<section id="(\w+)">', text) == headings
    assert [href.removeprefix("#") for href in Page(text).values("href")] == headings


def test_the_numbers_of_the_records_are_on_the_page(make_home: MakeHome) -> None:
    text = Page(build(make_home(), "toy")).text
    for told in (
        "toy /2",
        "not shown to be better",
        "0.9123 [0.9023, 0.9223]",
        "+1.23 [−0.40, +2.80]",
        "the worst one",
        "Expected calibration error 0.034",
        "onnx-int8",
        "12.3 ms",
        "This was question 1 to this test set",
        "+3.10",  # the difference that could have been seen
        "broken",
        "guardrails.latency_ms",
        "characters: 1–20",
        "evaluate/scores.json",
    ):
        assert told in text, told


def test_every_file_stands_with_its_sha256(make_home: MakeHome) -> None:
    from pipeline.core.files import sha256_of

    home = make_home()
    write(home, "toy")
    text = build(home, "toy")
    for file in home.rglob("*.json"):
        assert file.relative_to(home).as_posix() in text
        assert sha256_of(file) in text
    assert "report/report.html" not in text


def test_hostile_texts_are_shown_and_not_obeyed(make_home: MakeHome) -> None:
    labels = [HOSTILE, "a\x00b\u202ec", "$\\frac{$", "x" * 5000]
    row = ["id", BROKEN_NAME, "1", "train", HOSTILE, "leak", "warn", HOSTILE, "</td></table>"]
    mistake = ["id", HOSTILE, labels[1], "0.9", BROKEN_NAME, "1", f"half \x07 {HOSTILE}"]
    told = verdict().model_copy(update={"reason": f"{HOSTILE}\x07, turned \u202e"})
    home = make_home(
        labels,
        [row],
        [mistake],
        [["id", f"said {HOSTILE}", labels[1], HOSTILE]],
        [["id", n, n, label, n > 1] for n, label in enumerate(labels)],
        slices=[HOSTILE, "$\\frac{$", "a\x00b"],
        verdict=told,
    )
    report = home / "validate" / "report.csv"
    report.write_bytes(report.read_bytes() + b",\xed\xa0\xbd.txt,1,train,film,blank,warn,,\xff\n")
    text = build(home, "toy")
    seen = Page(text)
    assert HOSTILE in seen.text
    assert BROKEN_NAME in seen.text
    assert "$\\frac{$" in seen.text
    assert "half � " in seen.text
    assert f"said {HOSTILE}" in seen.text
    assert f"{HOSTILE}�, turned �" in seen.text
    assert not {"script", "img", "iframe", "object", "link", "foreignobject"} & set(seen.tags)
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\u202a-\u202e]", text)
    text.encode()


def test_nothing_but_a_picture_of_ours_is_let_in_as_markup() -> None:
    template = page.TEMPLATE.read_text()
    assert re.findall(r"\S+ \| *safe", template) == ["charts[name] | safe"]
    assert "autoescape" not in template


def test_the_page_needs_nothing_from_elsewhere(make_home: MakeHome) -> None:
    text = build(make_home([f"class {i}" for i in range(20)]), "toy")
    seen = Page(text)
    assert seen.values("src") == []
    for name in ("href", "xlink:href"):
        assert all(value.startswith(("#", "data:image/png")) for value in seen.values(name))
    assert "://" not in re.sub("sqlite:///", "", text)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_ids_and_links_within_the_page_match(make_home: MakeHome) -> None:
    seen = Page(build(make_home(), "toy"))
    ids = Counter(seen.values("id"))
    assert max(ids.values()) == 1
    used = {value for name in ("href", "xlink:href") for value in seen.values(name)}
    used |= {value[4:-1] for value in seen.values("clip-path")}
    assert {name.removeprefix("#") for name in used} <= set(ids)


def test_the_page_is_read_aloud_well(make_home: MakeHome) -> None:
    text = build(make_home(), "toy")
    seen = Page(text)
    assert seen.tags.count("h1") == 1
    assert seen.values("lang") == ["en"]
    levels = [int(tag[1]) for tag in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert seen.tags.count("th") == len(seen.values("scope"))
    assert seen.tags.count("figure") == seen.tags.count("svg") == seen.values("role").count("img")
    assert all(value.strip() for value in seen.values("aria-label"))


def test_the_same_records_give_the_same_bytes(make_home: MakeHome) -> None:
    home = make_home()
    first = write(home, "toy").read_bytes()
    assert write(home, "toy").read_bytes() == first
    assert [file.name for file in (home / "report").iterdir()] == ["report.html"]


def test_many_classes_and_rows_stay_small(make_home: MakeHome) -> None:
    labels = [f"class {i} {'x' * 30}" for i in range(60)]
    row = ["id", "a.csv", "1", "train", "film", "leak", "warn", "why", "t" * 80]
    mistake = ["id", "film", "money", "0.9", "a.csv", "1", "t" * 200]
    home = make_home(labels, [row] * 20_000, [mistake] * 5_000)
    path = write(home, "toy")
    assert path.stat().st_size < 5 * MEGABYTE
    text = path.read_text()
    assert text.count("t" * 80) < 200
    assert 'aria-label="Confusion matrix of 60 names' in text


def test_a_run_that_was_not_judged_is_told_so(make_home: MakeHome) -> None:
    text = Page(build(make_home(verdict=None), "toy")).text
    assert "The gate has not been asked about this version" in text
    assert "not judged" in text


def test_a_verdict_on_another_version_is_not_shown(make_home: MakeHome) -> None:
    text = build(make_home(publication=publication("3"), verdict=verdict("2")), "toy")
    assert "The gate has not been asked about this version" in text
    assert "not shown to be better" not in text


def test_a_run_that_is_not_published_is_told_so(make_home: MakeHome) -> None:
    home = make_home(publication=None, verdict=None)
    (home / "publish" / "lock.json").unlink()
    assert "Not published yet" in Page(build(home, "toy")).text


def test_a_first_version_is_compared_with_no_champion(make_home: MakeHome) -> None:
    text = Page(build(make_home(verdict=verdict(champion=None)), "toy")).text
    assert "toy/2 is promoted: no champion yet" in text
    assert "Against champion" not in text


def test_records_that_have_changed_since_are_told(make_home: MakeHome) -> None:
    home = make_home()
    same = page._md5(home / "finetune" / "fit.json")
    outs = [
        {"path": "data/toy/finetune/fit.json", "md5": same},
        {"path": "data/toy/finetune/model", "md5": "0.dir"},
        {"path": "data/toy/finetune/training.csv", "md5": "0" * 32},
    ]
    params = {"params.yaml": {"recipes.toy.base": {"sha256": "b" * 64}}}
    lock = {"finetune": {"outs": outs, "params": params}}
    (home / "publish" / "lock.json").write_text(json.dumps(lock))
    text = build(home, "toy")
    note = re.search(r'<p class="note">.*?</p>', text, re.DOTALL)
    assert note
    assert re.findall("<code>(.*?)</code>", note[0]) == [
        "finetune/training.csv",
        "bertline run toy",
    ]
    assert "b" * 64 in text


def test_behaviour_tests_are_shown_where_there_are_any(make_home: MakeHome) -> None:
    assert ">Behaviour<" not in build(make_home(), "toy")
    labels = ["film", "money", "sport"]
    found = scores(labels).model_copy(update={"behaviour": behaviour(HOSTILE)})
    seen = Page(build(make_home(labels, scores=found), "toy"))
    assert "typos common invariance 40 4 10.00 % 5.00 % broken" in seen.text
    assert "no row to change" in seen.text
    assert HOSTILE in seen.text


def test_rows_that_people_labelled_are_told(make_home: MakeHome) -> None:
    told = "120 of them are answers that people labelled"
    assert told not in build(make_home(), "toy")
    read = intake().model_copy(update={"labelled": 120})
    assert told in build(make_home(intake=read), "toy")


def test_a_task_without_classes_shows_neither_confusion_nor_calibration(
    make_home: MakeHome,
) -> None:
    text = build(make_home(**answers()), "toy")
    headings = re.findall("<h3>(.*?)</h3>", text)
    assert headings == ["Rules", "Flagged rows", "Splits and leakage", "Slices", "Worst mistakes",
                        "Guardrails", "Lineage", "Files"]  # fmt: skip
    told = Page(text).text
    for shown in (
        "Test exact match 0.7812 0.7712 to 0.7912, 200 rows",
        "Test F1 0.8634 0.8534 to 0.8734, 200 rows",
        "exact match of answerable 0.8021",
        "answerable rows 1,532",
        "Parameters besides the weights Taken from training labels or tuned on validation"
        " rows; test rows are not used. name value null threshold −1.375",
        "this model 0.7812 [0.7712, 0.7912] 0.8634 [0.8534, 0.8734]",
        "runtime validation exact match flips test exact match test F1 flips why",
        "Texts of more than 64 tokens (5.00 % of train, 5.00 % of validation, 5.00 % of test) are"
        " read in windows that share 16 tokens: 700 train rows make 1,904, 100 validation rows",
        "windows of 64 tokens",
        "were kept: validation exact match 0.1234",
        "test rows exact match characters: 1–20",
        "none the second half of the nineteenth century",
    ):
        assert shown in told, shown
    assert "ccuracy" not in told
    assert "acro-F1" not in told
    assert "classes" not in told


def test_a_space_is_drawn_where_there_is_one(make_home: MakeHome) -> None:
    places = [("id", n, n, "film", n > 1) for n in range(9)]
    home = make_home(points=places)
    assert "texts that are close are similar" in Page(build(home, "toy")).text
    (home / "evaluate" / "map.csv").write_text("id,x,y,class,right\n")
    assert "texts that are close are similar" not in Page(build(home, "toy")).text


def test_mistakes_are_told_by_what_puts_them_in_order(make_home: MakeHome) -> None:
    home = make_home()
    told = Page(build(home, "toy")).text
    assert "Wrong test answers, the surest first." in told
    assert "truth answer confidence where text" in told
    (home / "evaluate" / "mistakes.csv").write_text(
        "id,truth,answer,file,line,excerpt\n1,0.5,3.5,a.csv,9,the worst one\n"
    )
    told = Page(build(home, "toy")).text
    assert "Wrong test answers, the farthest from the truth first." in told
    assert "truth answer where text 0.5 3.5 a.csv:9 the worst one" in told


def test_texts_cut_in_their_middle_are_told_so(make_home: MakeHome) -> None:
    cut = lengths().model_copy(update={"long_text": "head_tail"})
    told = Page(build(make_home(lengths=cut), "toy")).text
    assert "Texts are cut to 64 tokens of their beginning and end: this shortens" in told


def test_many_labels_show_their_thresholds_and_a_picture_of_confusion(make_home: MakeHome) -> None:
    text = build(make_home(**emotions()), "toy")
    told = Page(text).text
    for shown in (
        "Test micro-F1 0.5873 0.5773 to 0.5973, 200 rows",
        "Test macro-F1 0.4921 0.4821 to 0.5021, 28 classes",
        "model micro-F1 macro-F1 sample-F1 exact match better on this model better on p",
        "name of value thresholds mild admiration 0.15 thresholds mild anger 0.17",
        "thresholds mixed surprise 0.69",
        "22.0 M parameters (1.34 % of them trained) learned",
        "area under ROC 0.9100",
        "area under precision-recall 0.5211",
        "class in rows kept share mild admiration 42 3.57 %",
        "From 0: the classes as in the table above, then nothing.",
        "truth answer times of the truth",
        "mild admiration nothing 7 14.00 %",
    ):
        assert shown in told, shown
    assert 'aria-label="Confusion matrix of 29 names' in text
    assert "Test exact match" not in told  # two metrics head the page


def test_thresholds_in_a_list_are_told_by_class(make_home: MakeHome) -> None:
    few = page._decision({"thresholds": [0.1, 0.2], "margin": 0.5}, ["film", "money"])
    assert list(few) == [
        ("thresholds", "film", 0.1),
        ("thresholds", "money", 0.2),
        ("margin", "", 0.5),
    ]


def test_what_was_missed_or_made_up_is_confused_with_nothing(make_home: MakeHome) -> None:
    text = build(make_home(**spans()), "toy")
    told = Page(text).text
    for shown in (
        "Test entity F1 0.8835 0.8735 to 0.8935, 200 rows",
        "truth LOC MISC ORG PER nothing LOC 380 0 20 0 12",
        "nothing 8 44 12 0 Most frequent",
        "truth answer times of the truth MISC nothing 60 16.67 % nothing MISC 44 ORG LOC 31",
        "token accuracy 0.9812",
        "model entity F1 better on",
        "ORG: Northern Rowing Club; LOC: Ely; PER: A. Whitmore",
    ):
        assert shown in told, shown
    assert "Calibration" not in told


@pytest.mark.parametrize("made", KINDS.values(), ids=KINDS)
def test_every_kind_of_task_makes_a_sound_page(
    make_home: MakeHome, made: Callable[[], Kind]
) -> None:
    seen = Page(build(make_home(**made()), "toy"))
    levels = [int(tag[1]) for tag in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert seen.tags.count("figure") == seen.tags.count("svg")
    assert max(Counter(seen.values("id")).values()) == 1
    assert seen.tags.count("th") == len(seen.values("scope"))


def test_an_unfinished_line_is_told_in_one_line(make_home: MakeHome) -> None:
    home = make_home()
    (home / "benchmark" / "benchmark.json").unlink()
    with pytest.raises(UserError, match=r"benchmark\.json: no such file: run the stages"):
        write(home, "toy")
    assert not (home / "report").exists()


def test_a_class_without_rows_and_no_slices_are_fine(make_home: MakeHome) -> None:
    labels = ["film", "money"]
    empty = scores(labels, slices=()).model_copy(update={"baselines": []})
    test = empty.test.model_copy(update={"confusions": {"money": {"money": 9}}, "more": {}})
    home = make_home(
        labels,
        scores=empty.model_copy(update={"test": test}),
        validation=validation(labels).model_copy(update={"leaks": {}}),
    )
    text = Page(build(home, "toy")).text
    assert "No row has an exact or near copy in another split" in text


def test_the_command_writes_the_report_and_says_where(
    make_home: MakeHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home()
    monkeypatch.chdir(home.parent.parent)
    assert main.main(["report", "toy"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert main.main(["report", "other"]) == 2
    assert "data/other/evaluate/scores.json: no such file" in capsys.readouterr().err


def test_the_template_is_packaged() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["pipeline.report"]
    folder = ROOT / "pipeline" / "report"
    packaged = {file for pattern in patterns for file in folder.glob(pattern)}
    others = {file for file in folder.iterdir() if file.is_file() and file.suffix != ".py"}
    assert packaged == others


# Chromium makes no window narrower than 500 pixels: the phone is a frame in a page that measures it
PHONE = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe width="390" height="800" style="border: 0" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const inside = document.querySelector("iframe").contentDocument;
  const told = [inside.defaultView.innerWidth, inside.documentElement.scrollWidth,
                inside.defaultView.getComputedStyle(inside.body).backgroundColor];
  document.documentElement.dataset.told = told.join("|");
}});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize(
    ("scheme", "page_colour"), [(1, "rgb(251, 251, 249)"), (0, "rgb(19, 21, 24)")]
)
def test_a_phone_scrolls_no_page_sideways_in_light_and_dark(
    make_home: MakeHome, tmp_path: Path, scheme: int, page_colour: str
) -> None:
    labels = ["a label that is rather long", "x" * 300, *(f"class {i}" for i in range(10))]
    text = build(make_home(labels), "toy")
    file = tmp_path / "phone.html"
    file.write_text(PHONE.format(page=escape(text)))
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--virtual-time-budget=4000",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--blink-settings=preferredColorScheme={scheme}",
        "--dump-dom",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    told = re.search('data-told="([^"]*)"', done.stdout)
    assert told, done.stderr[-2000:]
    assert told[1].split("|") == ["390", "390", page_colour]
