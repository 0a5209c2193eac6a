"""Serving environment: pinned as at the gate, small, and without PyTorch."""

import http.client
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.registry.versions import Registry
from tests.conftest import ROOT
from tests.prove.serving import Service, make_texts, register

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LARGEST = 400e6  # bytes
ABSENT = ("torch", "transformers", "pandas", "scipy", "sklearn", "prefect", "dvc", "onnx")
IMPORTS = (
    "import flows.cli.main, pipeline.registry.versions, pipeline.core.records,"
    " pipeline.promotion.champion, pipeline.recipe;"
    " from pipeline.tasks.base import answering, encoding;"
    " import mlflow, onnxruntime, tokenizers, fastapi, uvicorn, uvloop, httptools,"
    " prometheus_client"
)


def names(file: str) -> set[str]:
    lines = (ROOT / file).read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines), file
    assert len({line.split("==")[0] for line in lines}) == len(lines), file
    return {line.split("==")[0] for line in lines}


def asked(extra: str) -> set[str]:
    """Names that an extra asks for, those of the extras in it included."""
    found = {re.split(r"[^\w.\[\],-]", line)[0] for line in PROJECT["optional-dependencies"][extra]}
    for own in [name for name in found if name.startswith("bertline[")]:
        found.remove(own)
        found |= {name for inner in own[9:-1].split(",") for name in asked(inner)}
    return found


def test_a_package_is_pinned_in_one_file() -> None:
    pinned = [names(f"constraints{kind}.txt") for kind in ("", "-serve", "-dev")]
    assert len(set.union(*pinned)) == sum(map(len, pinned))


def test_the_two_builds_of_onnx_runtime_never_meet() -> None:
    builds = {"onnxruntime", "onnxruntime-gpu"}
    base = {re.split(r"[^\w.-]", line)[0] for line in PROJECT["dependencies"]}
    assert not base & builds
    assert asked("serve") == {"onnxruntime"}
    for extra in set(PROJECT["optional-dependencies"]) - {"serve"}:
        assert "onnxruntime" not in asked(extra), extra
    pins = dict(
        line.split("==")
        for file in ("constraints.txt", "constraints-serve.txt")
        for line in (ROOT / file).read_text().splitlines()
    )
    assert pins["onnxruntime"] == pins["onnxruntime-gpu"], "what was judged is what answers"


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment that `uv pip install '.[serve]'` makes from the pins: its interpreter."""
    uv = Path(sys.executable).with_name("uv")
    tool = str(uv) if uv.exists() else shutil.which("uv")
    if tool is None:
        pytest.skip("needs uv, which make installs into .venv")
    home = tmp_path_factory.mktemp("serving")
    source, folder = home / "source", home / "venv"  # a build leaves files in its source
    for name in ("pipeline", "flows", "infra"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    python = folder / "bin" / "python"
    pins = [f"-c{ROOT / name}" for name in ("constraints.txt", "constraints-serve.txt")]
    env = os.environ | {"UV_COMPILE_BYTECODE": "1", "UV_LINK_MODE": "copy"}
    if "PIP_FIND_LINKS" in env:
        env.setdefault("UV_FIND_LINKS", env["PIP_FIND_LINKS"])
    for command in (
        [tool, "venv", "-q", "--python", sys.executable, str(folder)],
        [tool, "pip", "install", "-q", "--python", str(python), *pins, f"{source}[serve]"],
    ):
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return python


@pytest.mark.prove
def test_the_environment_is_small_and_holds_no_pytorch(serving: Path) -> None:
    folder = serving.parent.parent
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    print(f"{size / 1e6:.0f} MB")
    assert size <= LARGEST
    packages = next(folder.glob("lib/python*/site-packages"))
    assert not [name for name in ABSENT if (packages / name).exists()]
    assert (packages / "pipeline").is_dir()


@pytest.mark.prove
def test_what_serving_imports_is_there(serving: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [serving, "-P", "-c", IMPORTS],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.prove
def test_a_champion_is_served_where_nothing_else_is_installed(
    serving: Path, tmp_path: Path
) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    registry.move("toy", register(registry, tmp_path / "v1", 1))
    text = make_texts(1)[0]
    [expected] = registry.scores("toy", "1", [(text, "")])
    service = Service(tmp_path / "serving", registry.tracking, python=str(serving))
    service.environment = {"PYTHONPATH": ""}
    with service:
        status, told = service.ask("/invocations", {"inputs": [text]})
        assert (status, told) == (200, {"predictions": [pytest.approx(expected, abs=1e-6)]})
        assert service.worker().cmdline()[0] == str(serving)
        for page in ("/", "/docs"):  # they come with the package
            connection = http.client.HTTPConnection("127.0.0.1", service.port)
            connection.request("GET", page)
            assert connection.getresponse().read().startswith(b"<!doctype html>"), page
            connection.close()
