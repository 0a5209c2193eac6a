"""The report: whole, safe, alone, the same again, and readable on a phone."""

import json
import re
import shutil
import subprocess
from collections import Counter
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
from tests.pipeline.report.records import (
    MakeHome,
    behaviour,
    intake,
    publication,
    scores,
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


def test_notes_on_classes_are_told(make_home: MakeHome) -> None:
    note = "'film' (9 rows) and '<b>' (1 row) differ"
    record = validation(["film", "money"]).model_copy(update={"notes": [note]})
    assert note in Page(build(make_home(["film", "money"], validation=record), "toy")).text


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
