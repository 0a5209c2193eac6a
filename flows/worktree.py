"""A git worktree for each recipe, so retraining does not change the user's files, and a git ref for
the dvc.lock of each version."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.core.config import check_name
from pipeline.core.errors import UserError
from pipeline.core.files import write_text
from pipeline.core.workspace import LOCK, STATE

TREES = STATE / "worktrees"
AUTHOR = ("-c", "user.name=bertline", "-c", "user.email=bertline@localhost")
NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")  # such as DVC's: they are for the user's own work


def prepare(home: Path, recipe: str, ref: str) -> Path:
    """Check out `ref` in a recipe's worktree; create the worktree if it is missing or broken.

    Checkpoints and DVC outputs of earlier runs stay. The caller ensures that no other process works
    in it. Raises UserError if `ref` is no commit, or `home` is not the top of its repository.
    """
    check_name(recipe)  # it becomes part of a path
    if Path(_git(home, "rev-parse", "--show-toplevel")).resolve() != home.resolve():
        raise UserError(f"{home}: is not the top folder of its git repository: start there")
    try:
        commit = _git(
            home, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
        )
    except UserError:
        raise UserError(
            f"{ref}: is no commit of this repository: commit first, or name another by --ref"
        ) from None
    tree = home / TREES / recipe
    if _is_ours(home, tree):
        for lock in ("index.lock", "HEAD.lock"):  # left by a git that was killed
            Path(_git(tree, "rev-parse", "--git-path", lock)).unlink(missing_ok=True)
        _git(tree, "checkout", "--quiet", "--detach", "--force", commit)
    else:
        shutil.rmtree(tree, ignore_errors=True)
        _git(home, "worktree", "prune")
        _git(home, "worktree", "add", "--quiet", "-f", "-f", "--detach", str(tree), commit)
    if not (tree / ".dvc" / "config").exists():
        raise UserError(f"{ref}: has no .dvc/config: commit it (dvc init makes it)")
    return tree


def _is_ours(home: Path, tree: Path) -> bool:
    """True if the worktree is complete: a kill, a move or a copy can leave a part of one."""
    if not (tree / ".git").is_file():
        return False
    try:
        common = _git(tree, "rev-parse", "--path-format=absolute", "--git-common-dir")
        top = _git(tree, "rev-parse", "--show-toplevel")
        own = _git(home, "rev-parse", "--path-format=absolute", "--git-common-dir")
    except UserError:
        return False
    return Path(top).resolve() == tree.resolve() and Path(common).resolve() == Path(own).resolve()


def mirror(home: Path, tree: Path, paths: Iterable[str]) -> None:
    """Copy data files from the user's folder to the worktree, committed or not.

    A path that the user's folder lacks is removed, unless git or DVC tracks it. Raises UserError
    for a relative path that leaves the folder.
    """
    for path in dict.fromkeys(paths):
        if Path(path).is_absolute():
            continue
        source, target = Path(os.path.normpath(home / path)), Path(os.path.normpath(tree / path))
        if not source.is_relative_to(home):
            raise UserError(f"{path}: lies outside of this folder: write its absolute path")
        for step in (*reversed(target.relative_to(tree).parents), target.relative_to(tree)):
            if (tree / step).is_symlink():  # it could lead out of the worktree
                (tree / step).unlink()
        if not source.exists():
            tracked = _git(tree, "ls-files", "--", path) or Path(f"{target}.dvc").exists()
            if not tracked:
                _remove(target)
        elif source.is_file():
            _copy(source, target)
        else:
            _mirror_folder(source, target)


def _mirror_folder(source: Path, target: Path) -> None:
    wanted = {file.relative_to(source) for file in _files(source)}
    for place, folders, files in os.walk(target):  # links are removed, not followed
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        for path in (Path(place) / name for name in (*linked, *files)):
            if path.is_symlink() or path.relative_to(target) not in wanted:
                path.unlink()
    for file in wanted:
        _copy(source / file, target / file)


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file of a folder; links are followed, each folder once."""
    seen: set[Path] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = [name for name in folders if (here / name).resolve() not in seen]
        seen |= {(here / name).resolve() for name in folders}
        yield from (here / name for name in files if (here / name).is_file())


def _copy(source: Path, target: Path) -> None:
    now = source.stat()
    if target.is_file():
        before = target.stat()
        if (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns):
            return
    elif target.exists():
        _remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    shutil.copy2(source, temporary)
    temporary.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def keep_lock(tree: Path, recipe: str, version: str) -> str:
    """Commit a version's dvc.lock on top of the worktree's HEAD, and return the ref that keeps it.

    No branch, index or working file changes.
    """
    ref = f"refs/bertline/{recipe}/{version}"
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(tree, "read-tree", "HEAD", env=index)
        blob = _git(tree, "hash-object", "-w", "--", str(LOCK))
        _git(tree, "update-index", "--add", "--cacheinfo", f"100644,{blob},{LOCK}", env=index)
        content = _git(tree, "write-tree", env=index)
    message = f"{recipe}/{version}: its dvc.lock"
    commit = _git(tree, *AUTHOR, "commit-tree", content, "-p", "HEAD", "-m", message)
    _git(tree, "update-ref", ref, commit)
    return ref


def take(home: Path, recipe: str, version: str, branch: str | None, patch: Path | None) -> str:
    """Write a retrained version's lock as a branch or a patch. Returns a message on the result.

    Raises UserError if no retraining of this repository made the version, or the branch exists.
    """
    ref = f"refs/bertline/{recipe}/{version}"
    try:
        _git(home, "rev-parse", "--verify", "--quiet", ref)
    except UserError:
        raise UserError(
            f"{recipe}/{version}: no scheduled run of this repository made it; versions of"
            " such runs: git for-each-ref refs/bertline"
        ) from None
    if patch:
        text = _git(home, "format-patch", "-1", "--stdout", ref)
        write_text(patch, text + "\n")
        return f"{patch}: apply it with git am {patch}"
    name = branch or f"bertline/{recipe}-{version}"
    _git(home, "branch", name, ref)
    return f"branch {name}: git merge {name} brings its lock, dvc checkout its files"


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run git and return its output. Raises UserError with git's message if it fails."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *NO_HOOKS, *arguments],
            cwd=folder,
            env=clean | {"LC_ALL": "C"} | (env or {}),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        raise UserError("git is not installed: retraining needs it for its worktree") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise UserError(f"git {arguments[0]}: {lines[-1]}")
    return done.stdout.strip()
