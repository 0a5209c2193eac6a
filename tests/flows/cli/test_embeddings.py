"""Calls of `bertline embed` and `bertline search`."""

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.cli import main
from pipeline.embeddings import store
from tests.conftest import make_rows, toy_block, write_csv, write_params

QUICK = ("--runtime", "pytorch")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> Path:
    """A folder with a base, rows, and a recipe."""
    rows = [{"question": row["text"], "answer": row["label"]} for row in make_rows(12)]
    write_csv(tmp_path / "faq.csv", rows)
    shutil.copytree(tiny_base, tmp_path / "base")
    write_params(tmp_path / "params.yaml", {"toy": toy_block("base", "faq.csv")})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_embedded_and_what_was_made_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["faq.csv", "--text", "question", "--label", "answer", "--model", "base", *QUICK]
    assert main.main(["embed", *asked, "--out", "v.npy", "--pooling", "mean", "--layers=-2:"]) == 0
    assert capsys.readouterr().out == (
        "v.npy: 12 embeddings of 32 numbers, mean of layers (1, 2), mean, of length 1,"
        " by base in pytorch\n"
    )
    assert np.load("v.npy").shape == (12, 32)
    assert pq.read_schema("v.ids.parquet").names == ["id", "label"]
    told = json.loads(Path("v.npy.json").read_text())
    assert told["layers"] == [1, 2]
    assert told["source"] == "faq.csv"


def test_a_recipe_gives_its_trained_model_and_its_length(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["embed", "faq.csv", "--text", "question", "--model", "toy", "--out", "v.npy", *QUICK]
    assert main.main(asked) == 2
    assert "--model toy: has not been trained here yet: bertline run toy" in capsys.readouterr().err
    shutil.copytree("base", "data/toy/finetune/model")
    assert main.main(asked) == 0
    assert store.made_of(Path("v.npy")).max_length == 24  # of the recipe


def test_search_shows_the_nearest_rows_wherever_options_stand(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = make_rows(12)[4]
    asked = ["--text", "question", "--model", "base", *QUICK, "-k", "2", "--show", "answer"]
    for arguments in (["faq.csv", query["text"], *asked], ["faq.csv", *asked, query["text"]]):
        assert main.main(["search", *arguments]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"1.000\t{query['text']}\t{query['label']}"
        assert second.count("\t") == 2


def test_each_line_of_standard_input_is_answered(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [row["text"] for row in make_rows(12)[:2]]
    given = io.BytesIO(f"{texts[0]}\n\n{texts[1]}\n".encode() + b"\xff\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given, isatty=lambda: False))
    asked = ["search", "faq.csv", "--text", "question", "--model", "base", *QUICK, "--json"]
    assert main.main(asked) == 2
    told = capsys.readouterr()
    answers = [json.loads(line) for line in told.out.splitlines()]
    assert [each["query"] for each in answers] == texts
    assert [each["answers"][0]["row"]["question"] for each in answers] == texts
    assert len(answers[0]["answers"]) == 5
    assert told.err.endswith("error: standard input, line 4: is not UTF-8 (byte 1)\n")


def test_a_file_of_embeddings_brings_its_own_options(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["faq.csv", "--text", "question", "--model", "base", *QUICK]
    assert main.main(["embed", *rows, "--carry", "question", "--out", "v.parquet"]) == 0
    query = make_rows(12)[4]["text"]
    capsys.readouterr()
    assert main.main(["search", "v.parquet", query, "-k", "1", "--show", "question"]) == 0
    assert capsys.readouterr().out == f"1.000\t{query}\n"
    for option in (["--model", "base"], ["--no-normalize"], ["--no-quotes"]):
        assert main.main(["search", "v.parquet", query, *option]) == 2
        told = f"error: {option[0].replace('no-norm', 'norm')}: v.parquet holds embeddings already"
        assert capsys.readouterr().err.startswith(told)


def test_a_model_that_has_changed_since_answers_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["faq.csv", "--text", "question", "--model", "base", *QUICK]
    assert main.main(["embed", *rows, "--out", "v.npy"]) == 0
    weights = bytearray(Path("base/model.safetensors").read_bytes())
    weights[-1] ^= 1
    Path("base/model.safetensors").write_bytes(weights)
    assert main.main(["search", "v.npy", "x"]) == 2
    assert "v.npy: its model base has changed: embed it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", "no.csv", "--out", "v.npy"), "no.csv: no such file or folder"),
        (("embed", "faq.csv", "--out", "v.csv"), "--out v.csv: name a file that ends in .parquet"),
        (("embed", "faq.csv", "--out", "v.npy"), "no column 'text': its header names question"),
        (("embed", "faq.csv", "--out", "v.npy", "--model", "toyy"), "did you mean toy?"),
        (("embed", "faq.csv", "--out", "v.npy", "--model", "./no"), "holds no config.json"),
        (("embed", "faq.csv", "--out", "v.npy", "--format", "x"), "--format x: use one of conll"),
        (("search", "faq.csv", "x", "-k", "0"), "-k 0: ask for one row or more"),
        (("search", "v.npy", "x"), "v.npy: no v.npy.json beside it: embed its rows again"),
        (("search", "faq.csv", "x", "--text", "question", "--show", "no"), "no column 'no'"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_makes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(folder.iterdir())
    own = ["--model", "base"] if arguments[1] != "v.npy" and "--model" not in arguments else []
    assert main.main([*arguments, *own]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.splitlines()[-1].startswith("error: ")
    assert [path for path in sorted(folder.iterdir()) if path.name != ".bertline"] == before


def test_words_that_no_command_takes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["check", "toy", "more"], ["search", "faq.csv", "--foo", "x"]):
        assert main.main(arguments) == 2
        told = capsys.readouterr().err
        assert f"({arguments[2]})" in told or f": {arguments[2]}" in told
        assert told.endswith(f"\nTry 'bertline {arguments[0]} --help'\n")
