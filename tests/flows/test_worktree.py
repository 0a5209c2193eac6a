"""Retraining has a worktree of its own and changes nothing of the user's."""

import subprocess
from pathlib import Path

import pytest

from flows import worktree
from pipeline.core.errors import UserError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("[core]")
    (folder / ".gitignore").write_text(".bertline/\n")
    (folder / "params.yaml").write_text("one")
    for call in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "one")):
        git(folder, *call)
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=owner", "-c", "user.email=owner@example.org")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def state(home: Path) -> tuple[object, ...]:
    """Return the state of the user's folder: branch, index, files and their times."""
    files = sorted(
        (str(f.relative_to(home)), f.stat().st_mtime_ns, f.read_bytes())
        for f in home.rglob("*")
        if f.is_file() and not {".git", ".bertline"} & set(f.relative_to(home).parts)
    )
    head = (home / ".git" / "HEAD").read_text()
    return head, git(home, "status", "--porcelain"), git(home, "branch", "-a"), files


def test_the_owners_unfinished_work_stays_and_is_not_run(home: Path) -> None:
    (home / "params.yaml").write_text("half an edit")
    (home / "new.py").write_text("not committed")
    before = state(home)
    tree = worktree.prepare(home, "toy", "HEAD")
    assert (tree / "params.yaml").read_text() == "one"
    assert not (tree / "new.py").exists()
    assert state(home) == before


def test_a_worktree_follows_the_commit_and_keeps_what_was_made_in_it(home: Path) -> None:
    tree = worktree.prepare(home, "toy", "HEAD")
    (tree / ".bertline").mkdir()
    (tree / ".bertline" / "checkpoint").write_text("half a training")
    (tree / "params.yaml").write_text("left behind by a run that was killed")
    (home / "params.yaml").write_text("two")
    git(home, "commit", "-qam", "two")
    lock = Path(git(tree, "rev-parse", "--git-path", "index.lock"))
    lock.touch()  # and so was its git
    assert worktree.prepare(home, "toy", "HEAD") == tree
    assert (tree / "params.yaml").read_text() == "two"
    assert (tree / ".bertline" / "checkpoint").read_text() == "half a training"
    assert (worktree.prepare(home, "toy", "HEAD~1") / "params.yaml").read_text() == "one"


def test_a_worktree_that_was_deleted_is_made_again(home: Path) -> None:
    tree = worktree.prepare(home, "toy", "HEAD")
    subprocess.run(["rm", "-rf", str(tree)], check=True)
    assert (worktree.prepare(home, "toy", "HEAD") / "params.yaml").read_text() == "one"


def test_half_a_worktree_is_made_anew(home: Path, tmp_path: Path) -> None:
    tree = worktree.prepare(home, "toy", "HEAD")
    about = Path(git(tree, "rev-parse", "--absolute-git-dir"))
    (about / "commondir").unlink()  # as a kill in `git worktree add` leaves it
    assert (worktree.prepare(home, "toy", "HEAD") / "params.yaml").read_text() == "one"
    (about / "locked").write_text("initializing")
    subprocess.run(["rm", "-rf", str(tree)], check=True)
    assert (worktree.prepare(home, "toy", "HEAD") / "params.yaml").read_text() == "one"
    moved = home.rename(tmp_path / "elsewhere")
    assert (worktree.prepare(moved, "toy", "HEAD") / "params.yaml").read_text() == "one"


def test_a_name_is_no_way_out(home: Path) -> None:
    before = state(home)
    with pytest.raises(UserError):
        worktree.prepare(home, "../..", "HEAD")
    assert state(home) == before
    inner = home / "inner"
    inner.mkdir()
    with pytest.raises(UserError, match="is not the top folder of its git repository"):
        worktree.prepare(inner, "toy", "HEAD")


def test_data_lead_nowhere_out_of_the_worktree(home: Path, tmp_path: Path) -> None:
    october, november = tmp_path / "october", tmp_path / "november"
    for folder in (october, november):
        folder.mkdir()
        (folder / f"{folder.name}.csv").write_text(folder.name)
    (home / "drop").symlink_to(october)
    git(home, "add", "drop")
    git(home, "commit", "-qm", "a link")
    (home / "drop").unlink()
    (home / "drop").symlink_to(november)
    tree = worktree.prepare(home, "toy", "HEAD")
    worktree.mirror(home, tree, ["drop"])
    assert [path.name for path in october.iterdir()] == ["october.csv"]
    assert (tree / "drop" / "november.csv").read_text() == "november"
    assert not (tree / "drop").is_symlink()
    with pytest.raises(UserError, match="lies outside of this folder"):
        worktree.mirror(home, tree, ["../october"])


def test_a_linked_label_folder_is_a_label(home: Path, tmp_path: Path) -> None:
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "a.txt").write_text("good")
    (home / "rows").mkdir()
    (home / "rows" / "pos").symlink_to(tmp_path / "pos")
    (home / "rows" / "round").symlink_to(home / "rows")  # and back to itself
    tree = worktree.prepare(home, "toy", "HEAD")
    for _ in range(2):
        worktree.mirror(home, tree, ["rows"])
        assert (tree / "rows" / "pos" / "a.txt").read_text() == "good"


def test_rows_that_are_gone_are_gone(home: Path) -> None:
    tree = worktree.prepare(home, "toy", "HEAD")
    (home / "rows.csv").write_text("rows")
    worktree.mirror(home, tree, ["rows.csv", "params.yaml"])
    for name in ("rows.csv", "params.yaml"):
        (home / name).unlink()
    worktree.mirror(home, tree, ["rows.csv", "params.yaml"])
    assert not (tree / "rows.csv").exists()
    assert (tree / "params.yaml").read_text() == "one"  # git brought it


def test_the_owners_hooks_are_not_run(home: Path) -> None:
    hook = home / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {home}/hooked\n")
    hook.chmod(0o755)
    worktree.prepare(home, "toy", "HEAD")
    assert not (home / "hooked").exists()


@pytest.mark.parametrize("ref", ["nowhere", "--upload-pack=touch x", "HEAD:params.yaml"])
def test_a_ref_that_is_no_commit_is_refused(home: Path, ref: str) -> None:
    with pytest.raises(UserError, match="is no commit of this repository"):
        worktree.prepare(home, "toy", ref)


def test_rows_come_from_the_owners_folder_as_they_lie_there(home: Path) -> None:
    raw = home / "data" / "raw"
    raw.mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (raw / name).write_text(name)
    tree = worktree.prepare(home, "toy", "HEAD")
    paths = ["data/raw", "nowhere", str(home / "params.yaml")]
    worktree.mirror(home, tree, paths)
    (raw / "a.csv").unlink()
    (raw / "b.csv").write_text("more rows")
    (raw / "c").mkdir()
    (raw / "c" / "d.txt").write_text("d")
    worktree.mirror(home, tree, paths)
    copied = {str(f.relative_to(tree / "data")) for f in (tree / "data").rglob("*") if f.is_file()}
    assert copied == {"raw/b.csv", "raw/c/d.txt"}
    assert (tree / "data" / "raw" / "b.csv").read_text() == "more rows"
    (tree / "data" / "raw" / "b.csv").chmod(0o400)  # as DVC leaves what it has in its cache
    worktree.mirror(home, tree, paths)
    (raw / "b.csv").write_text("still more rows")
    worktree.mirror(home, tree, paths)
    assert (tree / "data" / "raw" / "b.csv").read_text() == "still more rows"


def test_a_lock_is_kept_on_a_ref_of_its_own_and_can_be_taken_over(home: Path) -> None:
    before = state(home)
    tree = worktree.prepare(home, "toy", "HEAD")
    (tree / "dvc.lock").write_text("what was made")
    assert worktree.keep_lock(tree, "toy", "4") == "refs/bertline/toy/4"
    assert worktree.keep_lock(tree, "toy", "4") == "refs/bertline/toy/4"
    assert state(home) == before
    assert git(home, "show", "refs/bertline/toy/4:dvc.lock") == "what was made"
    assert git(home, "rev-parse", "refs/bertline/toy/4^") == git(home, "rev-parse", "HEAD")

    patch = home.parent / "patches" / "toy-4.patch"
    assert "git am" in worktree.take(home, "toy", "4", None, patch)
    assert "branch take" in worktree.take(home, "toy", "4", "take", None)
    git(home, "merge", "-q", "--ff-only", "take")
    assert (home / "dvc.lock").read_text() == "what was made"
    git(home, "reset", "-q", "--hard", "HEAD~1")
    git(home, "am", "-q", str(patch))
    assert (home / "dvc.lock").read_text() == "what was made"
    with pytest.raises(UserError, match="a branch named 'take' already exists"):
        worktree.take(home, "toy", "4", "take", None)
    with pytest.raises(UserError, match="toy/5: no scheduled run of this repository made it"):
        worktree.take(home, "toy", "5", None, None)
