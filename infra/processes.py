"""Processes, logs and secrets of the servers of one folder.

A secret is created at its first use, in a file of mode 0600. It is never printed or passed on a
command line.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from pipeline.core.errors import UserError

ROOT = Path(__file__).parent.parent
PATIENCE = 180.0  # seconds for a server to be healthy, or to end
# prefixes of environment variables that would change our servers
FOREIGN = ("MLFLOW_", "_MLFLOW_", "PREFECT_", "PG")


class Processes:
    """Processes by name, recorded in `running.json` of one folder for later commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.record = home / "running.json"

    def running(self, name: str) -> psutil.Process | None:
        """Return the running process of that name, not another one that got its pid."""
        entry = self.noted(name)
        if entry is None:
            return None
        try:
            process = psutil.Process(entry["pid"])
            gone = process.status() == psutil.STATUS_ZOMBIE
            return None if gone or _age_mark(process) != entry["age_mark"] else process
        except psutil.NoSuchProcess:
            return None

    def start(
        self, name: str, command: list[str], environment: dict[str, str], **whom: Any
    ) -> None:
        """Start and record a process that outlives this one; `whom` is Popen's user and groups."""
        log = self.log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                env=clean_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **whom,
            )
        mark = _age_mark(psutil.Process(process.pid))
        self.note(name, {"pid": process.pid, "age_mark": mark})

    def wait(self, name: str, healthy: Callable[[], bool]) -> None:
        """Wait until it is healthy. Raises UserError if it has ended, or takes too long."""
        started = reported = time.monotonic()
        while not healthy():
            log = self.log(name)
            if not self.running(name):
                last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
                raise UserError(f"{name} has ended: {last} (full log: {log})")
            now = time.monotonic()
            if now - started > PATIENCE:
                raise UserError(f"{name} is not healthy after {PATIENCE:.0f} s: see {log}")
            if now - reported > 2:
                print(f"waiting for {name}", flush=True)
                reported = now + 8
            time.sleep(0.2)

    def stop(self, name: str, signal: int) -> None:
        """Stop it by a signal; kill it if it does not end."""
        process = self.running(name)
        if process is None:
            return
        process.send_signal(signal)
        try:
            process.wait(PATIENCE)
        except psutil.TimeoutExpired:
            print(f"{name} does not end: killing it")
            process.kill()
            process.wait()

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def noted(self, name: str) -> Any:
        """Return the value recorded under a name, or None."""
        return self._record().get(name)

    def note(self, name: str, value: object) -> None:
        write_private(self.record, json.dumps(self._record() | {name: value}))

    def _record(self) -> dict[str, Any]:
        return dict(json.loads(self.record.read_text())) if self.record.exists() else {}

    def secret(self, name: str) -> str:
        """Return a secret, which is created at its first use."""
        path = self.home / "secrets" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            write_private(path, secrets.token_hex(24))
        return path.read_text()


def clean_environment() -> dict[str, str]:
    """Return this process's environment without variables that are meant for other servers."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return ours | {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}


def _age_mark(process: psutil.Process) -> float:
    """Return the start of a process in seconds after boot, which a change of the clock keeps."""
    return round(process.create_time() - psutil.boot_time(), 1)


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `folder` at the end if the block succeeds."""
    new = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    try:
        yield new
        if folder.is_dir():
            folder.rmdir()
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
