"""Calls of the command that need no run of the pipeline."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.cli import main
from pipeline.core.config import read_recipe
from pipeline.core.errors import UserError
from tests.conftest import ROOT, make_rows, news_params, toy_block, write_csv, write_params

COMMANDS = (
    "recipes",
    "add",
    "new",
    "check",
    "run",
    "retrain",
    "schedule",
    "work",
    "take",
    "predict",
    "embed",
    "search",
    "serve",
    "labels",
    "promote",
    "rollback",
    "judge",
    "history",
    "explain",
    "report",
    "fsck",
    "gc",
    "forget",
    "ui",
)


def bertline(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([name, "--help"]) == 0
    assert re.search(rf"^examples?:\n  bertline {name}\b", capsys.readouterr().out, re.MULTILINE)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli.main import main; assert main(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'prefect', 'pandas', 'numpy', 'dvc'}\n"
        "heavy |= {'pydantic', 'ruamel', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> Path:
    """Folder with the shipped recipe and a file of the user's rows."""
    rows = [{"review": r["text"], "stars": r["label"]} for r in make_rows(300)]
    write_csv(tmp_path / "reviews.csv", rows)
    block = toy_block(tiny_base, "reviews.csv")
    write_params(tmp_path / "params.yaml", {"news": block})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # as MLflow leaves it behind
    return tmp_path


def test_new_writes_a_whole_recipe(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["new", "reviews", "reviews.csv", "--text", "review", "--label", "stars"]
    assert main.main(given) == 0
    block = read_recipe("reviews")
    assert block["watch"] == block["ingest"]["source"] == "reviews.csv"
    assert block["ingest"]["text"] == "review"
    assert block["finetune"]["epochs"] == 8  # for few rows, not that of the toy
    assert main.main(given) == 2
    assert "recipes.reviews is there already" in capsys.readouterr().err


def test_new_keeps_the_comments_of_params_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(news_params())
    write_csv(tmp_path / "a.csv", make_rows(5))
    monkeypatch.chdir(tmp_path)
    assert main.main(["new", "mine", "a.csv"]) == 0
    assert read_recipe("mine")["evaluate"]["behaviour"] == []  # suites are of a recipe's labels
    written = (tmp_path / "params.yaml").read_text()
    assert written.startswith(news_params())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("new", "reviews", "no.csv"), "no.csv: no such file or folder"),
        (
            ("new", "reviews", "reviews.csv", "--text", "body"),
            "no column 'body': its header names review, stars",
        ),
        (("new", "Reviews", "reviews.csv"), "recipe name 'Reviews'"),
        (("check", "nwes"), "no recipe 'nwes'; did you mean news?"),
        (("predict", "news", "a text"), "news: has no champion yet: bertline run news"),
        (("predict", "news", "--file", "no.txt"), "no.txt: no such file"),
        (("predict", "../x", "a text"), "recipe name '../x'"),
        (("serve", "../x"), "recipe name '../x'"),
        (("serve", "news", "--host", "0.0.0.0"), "set BERTLINE_API_KEYS to one or more keys"),
        (("labels", "news"), "data/feedback/news.jsonl: no such file: no feedback has been sent"),
        (("explain", "news"), "news: has no champion yet"),
        (("explain", "news/3"), "news/3: no such version"),
        (("history", "news"), "news: nothing has been decided yet: bertline run news"),
        (("judge", "news"), "news: has no champion yet: name a version"),
        (("judge", "news/3"), "news/3: no such version"),
        (("explain", "news/latest"), "write RECIPE/VERSION"),
        (("rollback", "news"), "has no champion to roll back from"),
        (("promote", "news/3"), "news/3: no such version"),
        (("promote", "news"), "news: has no version yet: bertline run news"),
        (("promote", "news@champion"), "name the version to promote"),
        (("rollback", "news/2"), "recipe name 'news/2'"),
        (("history", "news/2"), "recipe name 'news/2'"),
        (("predict", "news", "a text", "--file", "no.txt"), "only one of"),
        (("predict", "news", "-", "a text"), "only one of"),
        (("fsck", "nwes"), "no recipe 'nwes'; did you mean news?"),
        (("gc", "--budget", "lots"), "--budget lots: write a size such as 500MB or 2GB"),
        (("forget", "news", "--ids", "no.txt"), "no.txt: cannot be read"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    own: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main.main(list(arguments)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("serve", "--port", "65536"), "'65536' is no port: 0 to 65535"),
        (("serve", "--every", "0"), "'0' is no number of seconds: 0.05 to 86400"),
        (("serve", "--deadline", "nan"), "'nan' is no number of seconds: 0.05 to 86400"),
        (("serve", "--cores", "-1"), "'-1' is no whole number"),
        (("run", "--stage-timeout", "0"), "'0' is no number of hours: 0.01 to 8760"),
        (("run", "--stage-timeout", "inf"), "'inf' is no number of hours: 0.01 to 8760"),
    ],
)
def test_a_number_that_cannot_be_meant_is_told(
    capsys: pytest.CaptureFixture[str], option: tuple[str, str, str], message: str
) -> None:
    assert main.main([option[0], "news", *option[1:]]) == 2
    told = capsys.readouterr().err
    assert f"'{option[1]}': {message}" in told
    assert told.endswith(f"\nTry 'bertline {option[0]} --help'\n")


def test_texts_that_are_not_utf8_are_told_by_line(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "texts.txt").write_bytes(b"fine\nnot \xff fine\n")
    assert main.main(["predict", "news", "--file", "texts.txt"]) == 2
    assert "texts.txt, line 2: is not UTF-8 (byte 5)" in capsys.readouterr().err


def test_any_recipe_name_makes_a_key_that_prefect_takes() -> None:
    from prefect.types.names import ArtifactKey
    from pydantic import TypeAdapter

    from flows.steps import artifact_key

    key = artifact_key("my_reviews", "scores")
    assert TypeAdapter(ArtifactKey).validate_python(key) == "my-reviews-scores"


def test_a_port_in_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        assert main.main(["ui", "--port", port]) == 2
    assert f"127.0.0.1:{port}: cannot be listened on" in capsys.readouterr().err


def test_a_server_of_mlflow_is_named_instead_of_a_second_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        assert main.main(["ui", "--port", str(busy.getsockname()[1])]) == 2
    assert "is a server already: open http://127.0.0.1:5000" in capsys.readouterr().err


def test_what_stops_a_retraining_is_told_without_what_prefect_says_around_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.states import Crashed, Failed

    from flows import retrain

    ends = [Failed(data=UserError("no recipe 'nwes'"), message="Flow run"), Crashed(message="it")]
    monkeypatch.setattr(retrain, "retrain", lambda *_, return_state: ends.pop(0))
    assert main.main(["retrain", "nwes"]) == 2
    assert capsys.readouterr().err == "error: no recipe 'nwes'\n"
    assert main.main(["retrain", "nwes"]) == 2
    assert capsys.readouterr().err == "error: it\n"


def test_a_server_of_prefect_that_lets_nobody_in_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with Stranger.listening() as port:
        address = f"http://127.0.0.1:{port}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        with temporary_settings({PREFECT_API_URL: address}):
            assert main.main(["work"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "PREFECT_API_AUTH_STRING is missing or of another server" in told


class Stranger(BaseHTTPRequestHandler):
    """Server that answers only its health check without credentials."""

    def do_GET(self) -> None:
        healthy = self.path.endswith("/health")
        body = b"true" if healthy else b"authentication required"
        self.send_response(200 if healthy else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[int]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), cls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()


def test_a_recipe_with_a_typo_runs_nothing(own: Path) -> None:
    text = (own / "params.yaml").read_text().replace("epochs:", "epoch:")
    (own / "params.yaml").write_text(text)
    done = bertline("check", "news", cwd=own)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean epochs?" in done.stderr or "epochs: is missing" in done.stderr


class Champion:
    """Stand-in for a version loaded by MLflow; it answers each text by its length."""

    def __init__(self, two_texts: bool) -> None:
        self.model_config = {"two_texts": two_texts}

    def predict(self, texts: list[Any]) -> Any:
        import pandas as pd

        pairs = [(t["text"], t["second"]) if isinstance(t, dict) else (t, "") for t in texts]
        return pd.DataFrame(
            [{"label": f"{len(a)}+{len(b)}", "score": 0.5, "answers": [a, b]} for a, b in pairs]
        )

    def unwrap_python_model(self) -> Any:
        def shown(label: str, text: str, second: str) -> str:
            return f"{label} of {text}/{second}"

        return SimpleNamespace(answering=SimpleNamespace(task=SimpleNamespace(shown=shown)))


@pytest.fixture(params=["texts", "pairs"])
def champion(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    version = Champion(two_texts=request.param == "pairs")
    registry = SimpleNamespace(champion=lambda name: "3", load=lambda name, number: version)
    monkeypatch.setattr("pipeline.registry.versions.Registry", lambda tracking: registry)
    return str(request.param)


def test_predict_shows_an_answer_as_people_read_it(
    champion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["predict", "toy", "one", "three"]) == 0
    told = capsys.readouterr().out
    if champion == "pairs":
        assert told == "3+5 of one/three\t0.500\tone | three\n"
    else:
        assert told == "3+0 of one/\t0.500\tone\n5+0 of three/\t0.500\tthree\n"


def test_predict_shows_joiners_of_a_script_and_of_an_emoji(
    champion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["علمی\u200cتخیلی", "👩\u200d💻"]
    assert main.main(["predict", "toy", *texts]) == 0
    told = capsys.readouterr().out
    assert all(text in told for text in texts)
    assert "\ufffd" not in told


def test_predict_tells_the_whole_answer_as_json(
    champion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["predict", "toy", "one", "three", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    asked = {"text": "one", "second": "three"} if champion == "pairs" else {"text": "one"}
    answer = {"label": "3+5" if champion == "pairs" else "3+0", "score": 0.5}
    answers = ["one", "three" if champion == "pairs" else ""]
    assert told[0] == {**asked, **answer, "answers": answers, "version": "toy/3"}


def test_predict_answers_the_rows_of_a_file(
    champion: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("n,body,other\n1,one,three\n2,,x\n3,two,four\n")
    command = ["predict", "toy", "--input", "a.csv", "--output", "a.jsonl", "--text", "body"]
    if champion == "pairs":
        assert main.main(command) == 2
        assert "toy: reads two texts: name the column of the second" in capsys.readouterr().err
        command += ["--second", "other"]
    assert main.main(command) == 0
    told = "a.jsonl: 2 rows, answered by toy/3; 1 cannot be answered: a.rejects.jsonl"
    assert told in capsys.readouterr().out
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    label = "3+5" if champion == "pairs" else "3+0"
    assert (rows[0]["n"], rows[0]["label"], rows[0]["version"]) == ("1", label, "toy/3")
    assert json.loads(Path("a.rejects.jsonl").read_text())["line"] == 3
    assert main.main(command) == 2
    assert "exists: name another, or replace it by --overwrite" in capsys.readouterr().err
    assert main.main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--input", "a.csv"], "give --input and --output together"),
        (["--text", "body", "one"], "give --input and --output together"),
        (["--input", "a.csv", "--output", "b.csv", "one"], "without texts"),
        (["--input", "none.csv", "--output", "b.csv"], "none.csv: no such file or folder"),
    ],
)
def test_options_of_rows_go_together(
    champion: str, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["predict", "toy", *given]) == 2
    assert message in capsys.readouterr().err


def test_predict_reads_pairs_from_a_file(
    champion: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["one\tthree", json.dumps({"text": "a\tb", "second": "c"})]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    assert main.main(["predict", "toy", "--file", str(tmp_path / "pairs.txt")]) == 0
    labels = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    # for a model of one text, a line is a text even if it contains a tab
    assert labels == (["3+5", "3+1"] if champion == "pairs" else ["9+0", f"{len(lines[1])}+0"])


@pytest.mark.parametrize("champion", ["pairs"], indirect=True)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one\tthree\njust one\n", "pairs.txt, line 2: is no pair"),
        ("one\ttwo\tthree\n", "pairs.txt, line 1: is no pair"),
        ('{"text": "one"}\n', "pairs.txt, line 1: is no pair"),
        ('{"text": "one", "second": 2}\n', "pairs.txt, line 1: is no pair"),
        ("{no JSON}\n", "pairs.txt, line 1: is no pair"),
    ],
)
def test_a_line_that_is_no_pair_is_named(
    champion: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    (tmp_path / "pairs.txt").write_text(content)
    assert main.main(["predict", "toy", "--file", str(tmp_path / "pairs.txt")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("champion", ["pairs"], indirect=True)
def test_an_odd_number_of_texts_is_no_pairs(
    champion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["predict", "toy", "one", "two", "three"]) == 2
    assert "toy: reads two texts at once: give them two by two" in capsys.readouterr().err
