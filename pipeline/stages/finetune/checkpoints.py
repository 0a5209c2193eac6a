"""Checkpoints of Trainer: sealed once they are whole, and the last whole one found again."""

import json
import os
import shutil
from pathlib import Path

from pipeline.core.files import sha256_of, write_json

WHOLE = "whole.json"  # stands in a checkpoint once all of its files are on the disk


def seal(checkpoint: Path) -> None:
    """Write down the digest of every file of a finished checkpoint."""
    files = sorted(file for file in checkpoint.iterdir() if file.name != WHOLE)
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    write_json(checkpoint / WHOLE, {file.name: sha256_of(file) for file in files})


def abandoned(state: Path, key: str) -> int | None:
    """The last step that a checkpoint under another key was sealed at; None where there is none."""
    sealed = (path.parent for path in state.glob(f"*/checkpoint-*/{WHOLE}"))
    steps = [_step(path) for path in sealed if path.parent.name != key]
    return max(steps, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def last_whole(state: Path) -> Path | None:
    """The latest checkpoint with all its bytes; whatever else lies there is removed.

    Trainer's own search takes the highest number, whole or not, and goes on without an
    optimizer's state when that file is missing.
    """
    for leftover in state.glob(".*.partial"):
        leftover.unlink()
    checkpoints = sorted(state.glob("checkpoint-*"), key=_step)
    while checkpoints:
        checkpoint = checkpoints.pop()
        try:
            listed = json.loads((checkpoint / WHOLE).read_text())
            best = json.loads((checkpoint / "trainer_state.json").read_text())
            model = best["best_model_checkpoint"]
            if all(sha256_of(checkpoint / name) == digest for name, digest in listed.items()) and (
                model is None or (state / Path(model).name / WHOLE).exists()
            ):
                return checkpoint
        except (OSError, ValueError):
            pass  # cut short: remove it
        shutil.rmtree(checkpoint)
    return None
