"""Parts of the git history that upkeep needs."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

OURS = "refs/bertline/"


def lock_files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and text of every dvc.lock and .dvc file in the commit of a branch, tag, stash
    or DVC experiment; none if there is no git repository.

    The commits of scheduled runs (refs/bertline) are left out: gc finds versions in MLflow.
    """
    refs = _git(root, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    tips = [tip for tip, _, name in (ref.partition(" ") for ref in refs) if OURS not in name]
    tips += _git(root, "rev-parse", "--verify", "--quiet", "HEAD").split()
    blobs: dict[str, str] = {}
    for tip in dict.fromkeys(tips):
        for line in _git(root, "ls-tree", "-r", "-z", "--full-tree", tip).split("\0"):
            about, _, name = line.partition("\t")
            if name.endswith(".dvc") or Path(name).name == "dvc.lock":
                blobs[about.split()[2]] = name
    for blob, name in blobs.items():
        yield name, _git(root, "cat-file", "blob", blob)


def remembers(root: Path, path: str) -> bool:
    """True if any commit has held this file."""
    return bool(_git(root, "log", "-1", "--all", "--format=%H", "--", path).strip())


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
