"""A recipe's own git worktree, in which it is retrained while its owner's files stay as they are,
and a ref of its own for the lock of each version. The only place that calls git."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import whole
from pipeline.workspace import LOCK, STATE

TREES = STATE / "worktrees"
AUTHOR = ("-c", "user.name=bertline", "-c", "user.email=bertline@localhost")
NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")  # the owner's, such as DVC's, are for the owner


def prepare(home: Path, recipe: str, ref: str) -> Path:
    """The worktree of a recipe, at a commit of the owner's; made where it is missing.

    What earlier runs left in it stays: checkpoints, and what DVC has made. Call it where nobody
    else works in it. Raises UserError where `ref` is no commit.
    """
    try:
        commit = _git(
            home, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
        )
    except UserError:
        raise UserError(
            f"{ref}: is no commit of this repository: retraining works on what is committed"
        ) from None
    tree = home / TREES / recipe
    if (tree / ".git").exists():
        Path(_git(tree, "rev-parse", "--git-path", "index.lock")).unlink(missing_ok=True)
        _git(tree, "checkout", "--quiet", "--detach", "--force", commit)
    else:
        _git(home, "worktree", "prune")
        _git(home, "worktree", "add", "--quiet", "--force", "--detach", str(tree), commit)
    own = home / ".dvc" / "config.local"
    if own.exists():
        shutil.copy(own, tree / ".dvc" / "config.local")  # remotes, and how to reach them
    return tree


def mirror(home: Path, tree: Path, paths: Iterable[str]) -> None:
    """Copy data from the owner's folder: it arrives there, committed or not.

    A path that is not there, or lies outside of it, is left alone: DVC or its absolute name find
    it.
    """
    for path in dict.fromkeys(paths):
        source = home / path
        if Path(path).is_absolute() or not source.exists():
            continue
        target = tree / path
        if source.is_file():
            _copy(source, target)
            continue
        for file in sorted(target.rglob("*"), reverse=True):
            here = source / file.relative_to(target)
            if file.is_file() and not here.is_file():
                file.unlink()
        for file in source.rglob("*"):
            if file.is_file():
                _copy(file, target / file.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    now = source.stat()
    if target.is_file():
        before = target.stat()
        if (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns):
            return
    with whole(target) as temporary:
        shutil.copy2(source, temporary)


def keep_lock(tree: Path, recipe: str, version: str) -> str:
    """Commit a version's dvc.lock, on top of the commit that was worked on, to a ref of its own.

    Returns the ref. No branch, index or file of anybody moves.
    """
    ref = f"refs/bertline/{recipe}/{version}"
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(tree, "read-tree", "HEAD", env=index)
        blob = _git(tree, "hash-object", "-w", "--", str(LOCK))
        _git(tree, "update-index", "--add", "--cacheinfo", f"100644,{blob},{LOCK}", env=index)
        content = _git(tree, "write-tree", env=index)
    message = f"{recipe}/{version}: the lock it was made with"
    commit = _git(tree, *AUTHOR, "commit-tree", content, "-p", "HEAD", "-m", message)
    _git(tree, "update-ref", ref, commit)
    return ref


def take(home: Path, recipe: str, version: str, branch: str | None, patch: Path | None) -> str:
    """Hand a scheduled version's lock to the owner, as a branch or a patch. Returns what was made.

    Raises UserError where the version was not made by a scheduled run of this repository, or the
    branch is there already.
    """
    ref = f"refs/bertline/{recipe}/{version}"
    try:
        _git(home, "rev-parse", "--verify", "--quiet", ref)
    except UserError:
        raise UserError(
            f"{recipe}/{version}: no scheduled run of this repository made it: git for-each-ref"
            " refs/bertline lists those"
        ) from None
    if patch:
        text = _git(home, "format-patch", "-1", "--stdout", ref)
        patch.write_text(text + "\n", encoding="utf-8")
        return f"{patch}: apply it with git am {patch}"
    name = branch or f"bertline/{recipe}-{version}"
    _git(home, "branch", name, ref)
    return f"branch {name}: git merge {name} brings its lock, dvc checkout its files"


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What git says. Raises UserError with its complaint."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ["git", *NO_HOOKS, *arguments],
        cwd=folder,
        env=clean | {"LC_ALL": "C"} | (env or {}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise UserError(f"git {arguments[0]}: {said[-1]}")
    return done.stdout.strip()
