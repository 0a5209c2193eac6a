"""Calls to DVC, and the stages as Prefect tasks. No other module calls DVC."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.states import Completed

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import write_text
from pipeline.core.workspace import LOCK, ORDER

PROGRESS = re.compile(r"\[\w+\] +(\d+)%")
CHATTER = (
    "To track the changes",
    "git add",
    "To enable auto staging",
    "dvc config core",
    "Use `dvc",
)
NOT_SET = 251  # exit code of `dvc config` for a missing option
TEXT: Any = {"encoding": "utf-8", "errors": "replace"}  # of a child's output, whatever the locale
GRACE = 10  # seconds between SIGTERM and SIGKILL


def stale_stages(recipe: str) -> set[str]:
    """Return the stages of a recipe whose inputs or outputs differ from dvc.lock."""
    changed = _status(recipe)
    return {stage for stage in ORDER if stage in changed}


def changed_inputs(recipe: str, stages: tuple[str, ...]) -> set[str]:
    """Return the inputs of stages that differ from dvc.lock: paths and sections of params.yaml."""
    found: set[str] = set()
    for stage, changes in _status(recipe).items():
        for change in changes if stage in stages else ():
            if change == "changed command":
                found.add("dvc.yaml")
            elif isinstance(change, dict):
                for path, how in change.get("changed deps", {}).items():
                    found.update(how if isinstance(how, dict) else [path])
    return found


def _status(recipe: str) -> dict[str, list[Any]]:
    targets = [f"{stage}@{recipe}" for stage in ORDER]
    done = _call("status", "--json", *targets)
    try:
        changed = json.loads(done.stdout)
    except ValueError:
        raise UserError(f"dvc status: {_error_of(done.stderr.splitlines())}") from None
    return {name.partition("@")[0]: changes for name, changes in changed.items()}


def put_lock(recipe: str, entries: Mapping[str, Any]) -> None:
    """Replace a recipe's stages in dvc.lock by the entries of an earlier version."""
    from ruamel.yaml import YAML

    yaml = YAML()
    content = (yaml.load(LOCK) if LOCK.exists() else None) or {"schema": "2.0"}
    others = {n: e for n, e in content.get("stages", {}).items() if not n.endswith(f"@{recipe}")}
    content["stages"] = others | {f"{stage}@{recipe}": entry for stage, entry in entries.items()}
    stream = io.StringIO()
    yaml.dump(content, stream)
    write_text(LOCK, stream.getvalue())


def cache_folder() -> Path:
    """Return the folder of DVC's cache, relative to this one if it lies inside."""
    done = _call("cache", "dir")
    if done.returncode:
        raise UserError(f"dvc cache dir: {_error_of(done.stderr.splitlines())}")
    folder = Path(done.stdout.strip())
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def configure(home: Path, tree: Path, cache: Path) -> None:
    """Copy the DVC settings of the user's folder to a worktree, with the cache to share.

    Relative paths in them are resolved against the user's folder.
    """
    from configobj import ConfigObj

    settings = ConfigObj()
    for name in ("config", "config.local"):
        settings.merge(ConfigObj(str(home / ".dvc" / name)))
    for section in settings.sections:
        for name, value in settings[section].items():
            local = name == "url" and "://" not in value and not Path(value).is_absolute()
            if local or str(value).startswith(("./", "../")):
                settings[section][name] = os.path.normpath(home / ".dvc" / value)
    settings["cache"] = {**settings.get("cache", {}), "dir": str(cache)}
    temporary = tree / ".dvc" / ".config.local.partial"
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)  # it may contain the password of a remote
    temporary.write_text("\n".join(settings.write()) + "\n", encoding="utf-8")
    temporary.replace(tree / ".dvc" / "config.local")


def remote() -> str | None:
    """Return the name of DVC's default remote, or None."""
    done = _call("config", "core.remote")
    if done.returncode not in (0, NOT_SET):
        raise UserError(f"dvc config: {_error_of(done.stderr.splitlines())}")
    return done.stdout.strip() or None


def pull(recipe: str, data: Iterable[str]) -> None:
    """Pull outputs of dvc.lock, the run cache and data tracked by DVC; missing ones are no error.

    Raises Unavailable if the remote does not answer.
    """
    tracked = [f"{path}.dvc" for path in data if Path(f"{path}.dvc").exists()]
    _transfer("pull", "--run-cache", "--allow-missing", "--force", *tracked, recipe=recipe)


def push(recipe: str) -> None:
    """Push the outputs and the run cache to the remote.

    Raises Unavailable if the remote does not answer.
    """
    _transfer("push", "--run-cache", recipe=recipe)


def _transfer(*arguments: str, recipe: str) -> None:
    done = _call(*arguments, *(f"{stage}@{recipe}" for stage in ORDER))
    if done.returncode:
        raise Unavailable(f"dvc {arguments[0]}: {_error_of(done.stderr.splitlines())}")


def _call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*_dvc(), *arguments], capture_output=True, env=_environment(), **TEXT)


def _is_unavailable(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), Unavailable)


@task(
    task_run_name="{stage}",
    retries=2,
    retry_delay_seconds=[10, 30],
    retry_condition_fn=_is_unavailable,
)
def run_stage(stage: str, recipe: str, fresh: bool, force: bool, timeout: float) -> Any:
    """Reproduce one stage through DVC; a fresh one starts no process.

    Raises Unavailable if a service did not answer (the task is retried), else UserError.
    """
    if fresh:
        return Completed(message="fresh: nothing to do")
    logger = get_run_logger()
    command = [*_dvc(), "repro", "--single-item", *(["--force"] if force else [])]
    artifact = None
    tail: list[str] = []
    with _group([*command, f"{stage}@{recipe}"], timeout) as (process, expired):
        for line in process.stdout or ():
            line = line.rstrip()
            if not line or line.lstrip().startswith(CHATTER):
                continue
            tail = [*tail[-30:], line]
            logger.info(line)
            if found := PROGRESS.match(line):
                share = float(found[1])
                if artifact is None:
                    artifact = create_progress_artifact(share, key=artifact_key(recipe, stage))
                else:
                    update_progress_artifact(artifact, progress=share)
    if expired.is_set():
        raise UserError(f"{stage} of {recipe}: ended after {timeout:.0f} s, its time limit")
    if process.returncode != 0:
        kind = Unavailable if any("exited with 75" in line for line in tail) else UserError
        raise kind(_error_of(tail))
    return Completed(message="done")


def artifact_key(recipe: str, what: str) -> str:
    """Return the key of an artifact; Prefect's keys allow no underscore."""
    return f"{recipe}-{what}".replace("_", "-")


@contextmanager
def _group(
    command: list[str], timeout: float
) -> Iterator[tuple["subprocess.Popen[str]", threading.Event]]:
    """Start a process group, and end all of it after `timeout` seconds or with this block."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
        **TEXT,
    )
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _end(process)

    timer = threading.Timer(timeout, expire)
    timer.daemon = True
    timer.start()
    try:
        yield process, expired
        process.wait()
    finally:
        timer.cancel()
        _end(process)
        if process.stdout:
            process.stdout.close()


def _end(process: "subprocess.Popen[str]") -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue


def _dvc() -> list[str]:
    return [sys.executable, "-m", "dvc"]


def _environment() -> dict[str, str]:
    # stages call `python`: it must be this one, even if the environment is not activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}
    return os.environ | own | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}


def _error_of(lines: list[str]) -> str:
    """Return the line that states the error: a stage's own, else DVC's."""
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    bugs = [line for line in lines if re.match(r"\w+(\.\w+)*(Error|Exception)\b", line)]
    return (own or bugs or dvc or lines or ["no message"])[-1]
