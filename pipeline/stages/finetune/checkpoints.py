"""Trainer's checkpoints: sealed when complete, so that the last complete one can be found."""

import json
import os
import shutil
from pathlib import Path

from pipeline.core.files import sha256_of, write_json

SEAL = "whole.json"  # digests of a checkpoint's files, written once all are on the disk


def seal(checkpoint: Path) -> None:
    """Flush a finished checkpoint to the disk and write the digest of every file."""
    files = sorted(file for file in checkpoint.iterdir() if file.name != SEAL)
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    write_json(checkpoint / SEAL, {file.name: sha256_of(file) for file in files})


def abandoned(state: Path, key: str) -> int | None:
    """Return the last step of a sealed checkpoint under another key, or None if there is none."""
    sealed = (path.parent for path in state.glob(f"*/checkpoint-*/{SEAL}"))
    steps = [_step(path) for path in sealed if path.parent.name != key]
    return max(steps, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def last_whole(state: Path) -> Path | None:
    """Return the latest complete checkpoint and remove incomplete later ones.

    Trainer's own search takes the highest step, complete or not, and resumes without the
    optimizer's state if that file is missing.
    """
    for leftover in state.glob(".*.partial"):
        leftover.unlink()
    checkpoints = sorted(state.glob("checkpoint-*"), key=_step)
    while checkpoints:
        checkpoint = checkpoints.pop()
        try:
            digests = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
            state_file = checkpoint / "trainer_state.json"
            trainer_state = json.loads(state_file.read_text(encoding="utf-8"))
            best = trainer_state["best_model_checkpoint"]
            if all(sha256_of(checkpoint / name) == digest for name, digest in digests.items()) and (
                best is None or (state / Path(best).name / SEAL).exists()
            ):
                return checkpoint
        except (OSError, ValueError):
            pass  # incomplete: remove it
        shutil.rmtree(checkpoint)
    return None
