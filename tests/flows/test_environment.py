"""Servers of this machine are asked without a proxy, and no home folder is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import environment
from pipeline.core.workspace import bypass_proxy
from tests.conftest import ROOT

DEAD = "http://127.0.0.1:9"  # the discard service: nobody listens

PROXIES = [
    {"HTTP_PROXY": DEAD},
    {"http_proxy": DEAD, "NO_PROXY": "example.org"},
    {"ALL_PROXY": DEAD, "HTTPS_PROXY": DEAD, "no_proxy": "example.org"},
]


@pytest.mark.parametrize("given", PROXIES)
def test_this_machine_is_asked_without_a_proxy_and_others_with_it(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    import httpx
    from requests.utils import should_bypass_proxies

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    variables = dict(given)
    environment.prepare(variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for address in ("http://127.0.0.1:4200/api", "http://localhost:5000"):
        assert should_bypass_proxies(address, None)
        with httpx.Client() as client:
            assert client._transport_for_url(httpx.URL(address)) is client._transport
    with httpx.Client() as client:
        remote = client._transport_for_url(httpx.URL("http://prefect.example.com/api"))
        assert remote is not client._transport
    assert not should_bypass_proxies("http://mlflow.example.com", None)
    kept = given.get("NO_PROXY") or given.get("no_proxy")
    assert not kept or should_bypass_proxies("http://example.org", None)


def test_without_a_proxy_nothing_is_excluded() -> None:
    variables: dict[str, str] = {"HTTP_PROXY": ""}
    bypass_proxy(variables)
    assert variables == {"HTTP_PROXY": ""}


def test_what_is_excluded_already_stays_as_it_is() -> None:
    variables = {"HTTP_PROXY": DEAD, "NO_PROXY": "*"}
    bypass_proxy(variables)
    assert variables["NO_PROXY"] == variables["no_proxy"] == "*"
    twice = {"HTTP_PROXY": DEAD}
    bypass_proxy(twice)
    once = dict(twice)
    bypass_proxy(twice)
    assert twice == once


def below_a_file(tmp_path: Path) -> str:
    """A home that cannot be made, whoever asks: root may write to read-only folders."""
    (tmp_path / "file").write_text("")
    return str(tmp_path / "file" / "home")


@pytest.mark.parametrize("home", ["/proc/nonexistent", "below a file"])
def test_a_home_that_cannot_be_written_to_is_replaced_by_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"HOME": below_a_file(tmp_path) if home == "below a file" else home}
    environment.prepare(variables)
    for name in ("PREFECT_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        assert Path(variables[name]).is_relative_to(tmp_path / ".bertline")
    assert environment.prefect_home(variables) == tmp_path / ".bertline" / "prefect"
    assert not (tmp_path / ".bertline").exists()  # it is made when something is written


def test_a_home_that_can_be_written_to_is_used(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path)}
    environment.prepare(variables)
    assert not variables.keys() & {"PREFECT_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_HOME"}
    own = {"HOME": "/proc/nonexistent", "PREFECT_HOME": str(tmp_path / "mine")}
    environment.prepare(own)
    assert own["PREFECT_HOME"] == str(tmp_path / "mine")


def test_a_run_needs_no_home_and_no_proxy(tmp_path: Path) -> None:
    """Prefect's temporary server starts and answers at once, in a process of its own."""
    code = (
        "import json, sys\n"
        "from flows import line\n"
        "from prefect import flow\n"
        "from prefect.settings import PREFECT_HOME\n"
        "@flow\n"
        "def answer() -> int: return 42\n"
        "print(json.dumps([answer(), str(PREFECT_HOME.value())]))\n"
    )
    proxies = {"HTTP_PROXY": DEAD, "HTTPS_PROXY": DEAD, "ALL_PROXY": DEAD}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": below_a_file(tmp_path)}
        | proxies,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    assert json.loads(said) == [42, str(tmp_path / ".bertline" / "prefect")]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "ALL_PROXY: Using SOCKS proxy"),
        ({"HTTP_PROXY": "gopher://127.0.0.1:9"}, "ALL_PROXY: Unknown scheme for proxy URL"),
        ({"PREFECT_HOME": "/proc/nonexistent"}, "set PREFECT_HOME to a folder that can be"),
    ],
)
def test_what_prefect_cannot_use_is_told_in_one_line_at_once(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "flows.cli", "run", "news"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
