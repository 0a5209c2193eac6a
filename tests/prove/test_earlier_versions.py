"""Upgrade: versions of an earlier commit are served, explained, judged and rolled back to."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import old_names
from tests.conftest import ROOT
from tests.prove.earlier import (
    CHAMPION,
    PREVIOUS,
    RECIPES,
    SCHEDULED,
    TASKS,
    VERSIONS,
    Earlier,
    Lived,
    Said,
    build,
    upgrade,
)
from tests.prove.serving import Service

pytestmark = [pytest.mark.prove, pytest.mark.timeout(5400)]
NEXT = "toy/5"
WORDS = {
    "guard rail": "guardrail",
    "guard rails": "guardrails",
    "ladder": "runtimes",
    "mend": "fix",
    "nothing has gone: --yes lets it go": "nothing has been deleted: --yes deletes it",
    "without --dry-run it is": "leave out --dry-run to write it",
}
NAMED = (*VERSIONS, "toy@champion", *TASKS)
FACTS = ("recipe", "data", "label", "run")
VARIES = (
    r"\(looked at in \d+ s\)",
    r"about [\d,]+ min to train",
    r"[\d.]+ GB free",
    r"[\d.]+ MB are h\w+",
    r"[\d.]+ MB stay",
)


def meaning(text: str) -> str:
    """Text of a message in the present wording, without values that vary between calls."""
    text = re.sub("|".join(VARIES), "...", text)
    for old, new in WORDS.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return text


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Earlier:
    return build(tmp_path_factory.mktemp("earlier"), tiny_base)


@pytest.fixture(scope="module")
def now(earlier: Earlier) -> dict[str, Said]:
    """Results of the present code for the same commands, in the same folder."""
    upgrade(earlier.work)
    return earlier.work.ask(earlier.questions)


@pytest.fixture
def upgraded(earlier: Earlier, now: dict[str, Said], monkeypatch: pytest.MonkeyPatch) -> Lived:
    """The folder under today's code, entered; what it was asked before is done."""
    monkeypatch.chdir(earlier.work.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return earlier.work


@pytest.fixture
def passing(upgraded: Lived) -> Iterator[Lived]:
    """The same for a test that changes it: then it is put back, in its place, for MLflow and git's
    worktrees keep its path."""
    kept = upgraded.folder.with_name("kept")
    shutil.copytree(upgraded.folder, kept, symlinks=True)
    yield upgraded
    shutil.rmtree(upgraded.folder)
    kept.rename(upgraded.folder)


def tracking(work: Lived) -> str:
    return f"sqlite:///{work.folder / 'mlflow.db'}"


def bertline(work: Lived, *arguments: str, code: int | None = 0) -> str:
    """Standard output of the command."""
    return work.call(*work.bertline, *arguments, code=code).stdout


def verdict_on(work: Lived, version: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(bertline(work, "judge", version, "--json", code=None))
    return told


def same(before: Said, after: Said) -> None:
    """The same end, and the same words for people."""
    assert after.code == before.code, after.err
    assert meaning(after.out) == meaning(before.out)
    errors = [
        [line for line in said.err.splitlines() if line.startswith("error: ")]
        for said in (before, after)
    ]
    assert errors[0] == errors[1]


# the command


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_champion_answers_the_command_as_it_did(
    earlier: Earlier, now: dict[str, Said], recipe: str
) -> None:
    before, after = (said[f"predict {recipe}"] for said in (earlier.said, now))
    assert before.code == after.code == 0, after.err
    assert after.rows() == before.rows()
    number = CHAMPION if recipe == "toy" else f"{recipe}/1"
    assert {row["version"] for row in after.rows()} == {number}


@pytest.mark.parametrize("version", NAMED)
def test_a_version_is_explained_in_the_same_words(
    earlier: Earlier, now: dict[str, Said], version: str
) -> None:
    same(earlier.said[f"explain {version}"], now[f"explain {version}"])
    told = now[f"explain {version}"].out
    assert "files served, each as it was registered" in told
    assert "is not in the run any more" not in told
    assert "has the format of another version" not in told


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_ledger_tells_the_same_history(
    earlier: Earlier, now: dict[str, Said], recipe: str
) -> None:
    same(earlier.said[f"history {recipe}"], now[f"history {recipe}"])
    assert now[f"history {recipe}"].code == 0


@pytest.mark.parametrize("version", NAMED)
def test_the_gate_says_the_same_of_a_version(
    earlier: Earlier, now: dict[str, Said], version: str
) -> None:
    same(earlier.said[f"judge {version}"], now[f"judge {version}"])
    before, after = (
        json.loads(said[f"judge {version} --json"].out) for said in (earlier.said, now)
    )
    assert before.pop("rails") == after.pop("guardrails")
    assert old_names.section("gate", before.pop("rule")) == after.pop("rule")
    assert after == before
    assert not after["unfit"]


@pytest.mark.parametrize("command", ["fsck", "gc", "gc --keep 0", "labels toy --dry-run"])
def test_a_folder_is_looked_after_as_before(
    earlier: Earlier, now: dict[str, Said], command: str
) -> None:
    same(earlier.said[command], now[command])
    assert now[command].code == 0


def test_a_recipe_is_checked_as_before(earlier: Earlier, now: dict[str, Said]) -> None:
    """Today more is said, of rules, coverage and doubtful labels."""

    def facts(said: Said) -> list[str]:
        return [line for line in said.out.splitlines() if line[:6].strip() in FACTS]

    before, after = earlier.said["check toy"], now["check toy"]
    assert after.code == before.code, after.err
    assert facts(after) == facts(before)
    assert len(facts(after)) == len(FACTS)


def test_only_a_version_that_never_was_in_use_may_go(now: dict[str, Said]) -> None:
    """Folder with a rejected version, and champions to return to."""
    assert "versions that never were in use" not in now["gc"].out
    assert re.search(r"versions that never were in use +1 ", now["gc --keep 0"].out)


def test_no_damage_is_seen(now: dict[str, Said]) -> None:
    assert now["fsck"].out == "nothing is damaged\n"


def test_a_persons_rows_are_found_in_the_same_places(
    earlier: Earlier, now: dict[str, Said]
) -> None:
    same(earlier.said["forget toy"], now["forget toy"])
    assert "rewrite data/feedback/toy.jsonl" in now["forget toy"].out
    assert f"{SCHEDULED} has learned from 2 of them" in now["forget toy"].out


def test_a_report_is_written_from_the_records_there(passing: Lived) -> None:
    page = passing.folder / "data" / "toy" / "report" / "report.html"
    page.unlink()
    assert bertline(passing, "report", "toy").strip() == str(page.relative_to(passing.folder))
    told = page.read_text()
    assert "TF-IDF words + logistic regression" in told
    assert "onnx-int8" in told


def test_the_lock_of_a_scheduled_version_is_handed_over(upgraded: Lived, tmp_path: Path) -> None:
    patch = tmp_path / "lock.patch"
    assert "git am" in bertline(upgraded, "take", SCHEDULED, "--patch", str(patch))
    assert "+++ b/dvc.lock" in patch.read_text()


# serving


def answers_of(earlier: Earlier, recipe: str) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Texts that a recipe's champion was given, and its answers."""
    rows = earlier.said[f"predict {recipe}"].rows()
    asked = [(row.pop("text"), row.pop("second", "")) for row in rows]
    return asked, [{name: row[name] for name in row if name != "version"} for row in rows]


def number_of(recipe: str) -> str:
    return CHAMPION.partition("/")[2] if recipe == "toy" else "1"


def as_json(rows: object) -> Any:
    return json.loads(json.dumps(rows))


@pytest.mark.parametrize("recipe", RECIPES)
def test_mlflow_loads_a_champion_that_answers_as_it_did(
    earlier: Earlier, upgraded: Lived, recipe: str
) -> None:
    from pipeline.registry.versions import Registry

    asked, answered = answers_of(earlier, recipe)
    registry = Registry(tracking(upgraded))
    assert as_json(registry.scores(recipe, number_of(recipe), asked)) == answered


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_server_opens_a_champion_that_answers_as_it_did(
    earlier: Earlier, upgraded: Lived, recipe: str
) -> None:
    from pipeline.registry.versions import Registry
    from pipeline.serving.version import open_version, try_out

    registry, number = Registry(tracking(upgraded)), number_of(recipe)
    files = registry.files(recipe, number)
    version = open_version(recipe, number, registry.folder(recipe, number), files, 1)
    try_out(version)
    assert version.stored, "it has answers to compare with"
    asked, answered = answers_of(earlier, recipe)
    told = [
        {
            "label": answer.label,
            "score": answer.confidence,
            **answer.details,
            **{f"score_{name}": score for name, score in answer.scores.items()},
        }
        for answer in version.answer(asked, 8)
    ]
    assert as_json(told) == answered


def test_the_champion_is_served_over_http(
    earlier: Earlier, upgraded: Lived, tmp_path: Path
) -> None:
    asked, answered = answers_of(earlier, "toy")
    with Service(tmp_path / "served", tracking(upgraded)) as service:
        for (text, _), before in zip(asked, answered, strict=True):
            status, told = service.ask("/predict", {"text": text})
            assert (status, told["version"], told["label"]) == (200, CHAMPION, before["label"])
            # int8 quantizes activations batch by batch, and the command answered in one batch
            assert told["scores"] == {
                name: pytest.approx(before[f"score_{name}"], abs=1e-3) for name in told["scores"]
            }


# going on


def test_rolling_back_goes_to_the_champion_before_and_a_person_brings_the_last_one_back(
    earlier: Earlier, passing: Lived
) -> None:
    told = bertline(passing, "rollback", "toy", "--reason", "after the upgrade")
    assert f"{PREVIOUS} is the champion again, in place of {CHAMPION}" in told
    asked = earlier.questions["predict toy"]
    rows = [json.loads(line) for line in bertline(passing, *asked).splitlines()]
    assert {row["version"] for row in rows} == {PREVIOUS}
    told = bertline(passing, "promote", CHAMPION, "--reason", "it was sound")
    assert f"{CHAMPION} is the champion" in told
    rows = [json.loads(line) for line in bertline(passing, *asked).splitlines()]
    assert rows == earlier.said["predict toy"].rows()
    assert "after the upgrade" in bertline(passing, "history", "toy")


def test_a_challenger_of_todays_code_is_compared_with_the_champion(passing: Lived) -> None:
    passing.change(finetune={"epochs": 1, "learning_rate": 2e-5, "seed": 8})
    assert f"verdict on {NEXT}: " in bertline(passing, "run", "toy")
    verdict = verdict_on(passing, NEXT)
    assert (verdict["champion"], verdict["unfit"]) == (number_of("toy"), False)
    (compared,) = verdict["comparisons"]
    assert compared["champion"] > compared["challenger"]
    assert f"{NEXT}, not in use" in bertline(passing, "explain", NEXT)
    assert "nothing is damaged" in bertline(passing, "fsck", "toy")


def test_a_scheduled_retraining_goes_on_in_the_worktree_that_is_there(passing: Lived) -> None:
    told = bertline(passing, "retrain", "toy").splitlines()[-1]
    assert told.startswith(f"{NEXT}: "), told
    verdict = verdict_on(passing, NEXT)
    assert (verdict["champion"], verdict["unfit"]) == (number_of("toy"), False)
    refs = passing.call("git", "for-each-ref", "--format=%(refname)", "refs/bertline").stdout
    assert refs.split() == [f"refs/bertline/{version}" for version in (SCHEDULED, NEXT)]


def test_a_killed_training_goes_on_or_says_why_it_starts_anew(
    earlier: Earlier, passing: Lived
) -> None:
    """Training resumes if the code and all other inputs of the weights are unchanged."""
    told = finetuned(passing)
    fit = json.loads((passing.folder / "data" / "toy" / "finetune" / "fit.json").read_text())
    if fit["key"] == earlier.key:
        assert re.search(rf"going on from step {earlier.step}\b", told)
        assert "starts anew" not in told
    else:
        assert "going on from step" not in told
        (line,) = [line for line in told.splitlines() if "starts anew" in line]
        assert re.search(rf"\bstep {earlier.step}\b", line)
    assert not (passing.folder / ".bertline" / "state" / "toy").exists()


def finetuned(work: Lived) -> str:
    """Log of a training that is called as DVC calls it."""
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load(work.folder / "dvc.yaml")["stages"]
    command = stages["finetune"]["do"]["cmd"].replace("${key}", "toy")
    done = subprocess.run(
        command,
        shell=True,
        cwd=work.folder,
        env=work.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.skipif(
    not (ROOT / "pipeline" / "core").exists(),
    reason="today's code lies as the earlier code did: a commit of it can be retrained on",
)
def test_a_commit_whose_code_lies_otherwise_is_refused_in_one_line(
    earlier: Earlier, passing: Lived
) -> None:
    done = passing.call(*passing.bertline, "retrain", "toy", "--ref", earlier.commit, code=2)
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert earlier.commit[:7] in line
    assert "--ref" in line, "it says what to do"
    assert NEXT not in bertline(passing, "history", "toy")
