"""Collect the gate's input: test rows, and the answers of two registered versions to them."""

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.core import old_names
from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import atomic_write, sha256_of, size_of
from pipeline.core.log import Log, no_log
from pipeline.core.records import Validation
from pipeline.core.text import excerpt
from pipeline.metrics import scoring
from pipeline.promotion.champion import (
    Overtaken,
    can_return,
    decide,
    hold_rejected,
    lost,
    rival_of,
)
from pipeline.promotion.gate import GateParams, judge
from pipeline.promotion.question import Question, Side
from pipeline.registry.artifacts import ROWS
from pipeline.registry.ledger import Ledger, Pages
from pipeline.registry.records import Entry, Epoch, Verdict
from pipeline.registry.tags import TOKENIZER_TAG, VERDICT_TAG
from pipeline.registry.versions import SERVING_PACKAGES, Registry, inputs_of
from pipeline.retraining.plan import Rescore
from pipeline.retraining.row_changes import learned
from pipeline.stages.artifacts import groups_of, texts_of
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import Texts

if TYPE_CHECKING:
    import pandas as pd

TIMED = 40  # texts that measure a version's latency
TRIES = 100  # judgements of a version while other promotions come in between
ANSWERS = "answers.parquet"  # stored with a verdict: the version's answer to each row
PagesOf = Callable[[Verdict], Pages]


@dataclass(frozen=True)
class Bench:
    """Inputs of a judgement: the registry, a recipe's rule and rows, and a cache of answers."""

    registry: Registry
    model: str
    task: Task
    params: GateParams
    validate: Path
    """Folder of kept.parquet and validation.json."""
    cache: Path
    """Folder of answers, which are reused."""
    slices: Sequence[str] = ()
    """Columns whose values define slices of the rows."""
    log: Log = no_log


def ask(bench: Bench, number: str, *, rebaseline: bool = False, keep: bool = True) -> Verdict:
    """Judge a version: challenger and champion, each as served, answer the epoch's rows.

    The champion itself is compared with its predecessor. If the champion's alias was taken away,
    the last champion of the ledger takes its place; without any, a version that was rejected
    against one is held. With `rebaseline` the version is judged alone, on a new frozen test set.
    Without `keep` a new test set is used, but not frozen.
    """
    registry, model = bench.registry, bench.model
    run = registry.version_tags(model, number)["run"]
    champion = _champion(bench, number)
    labels = Validation.read(bench.validate / "validation.json").labels
    test_rows = _test_rows(bench)
    epoch = _epoch(bench, test_rows["id"].tolist(), rebaseline, keep)
    rows = test_rows[test_rows["id"].isin(epoch.ids)]
    challenger = _side(bench, number, rows)
    old = _side(bench, champion, rows) if champion and not rebaseline else None
    metrics = registry.run_facts(run)[1]
    rows_read = metrics.get("data.rows", 0)
    question = Question(
        model=model,
        task=bench.task,
        labels=labels,
        ids=rows["id"].tolist(),
        truth=rows["label"].tolist(),
        challenger=challenger,
        champion=old,
        epoch=epoch.number,
        groups=groups_of(rows),
        slices=_slices(rows, bench.slices),
        quarantined_percent=(
            100 * metrics.get("data.quarantined", 0) / rows_read if rows_read else 0.0
        ),
        behaviour_failed=metrics.get("behaviour.failed_share", 0.0),
    )
    entries = Ledger(registry, model).entries()
    verdict = judge(bench.params, replace(question, number=_number(entries, question)))
    return verdict if rebaseline or old else hold_rejected(verdict, entries)


def _champion(bench: Bench, number: str) -> str | None:
    """Version that a version is compared with; None if it is judged alone."""
    registry, model = bench.registry, bench.model
    champion = rival_of(registry, model)
    if champion and registry.champion(model) is None:
        bench.log.info(f"{model}: has no champion: {lost(registry, model)}")
    if champion != number:
        return champion
    before = [v for v in can_return(registry, model) if v != number]
    return before[-1] if before else None


def ask_and_decide(
    bench: Bench,
    number: str,
    *,
    approved: bool,
    person: bool = False,
    reason: str = "",
    pages: PagesOf | None = None,
) -> tuple[Verdict, Entry | None]:
    """Judge a version and write the verdict; judge again if another champion came in meanwhile.

    `approved`, `person` and `reason` are those of `champion.decide`; `pages` returns further files
    to store with the verdict: (file name, content).
    """
    for _ in range(TRIES):
        verdict = ask(bench, number)
        try:
            entry = decide(
                bench.registry,
                verdict,
                approved=approved,
                person=person,
                reason=reason,
                pages=[*(pages(verdict) if pages else ()), *answers_page(bench, verdict)],
            )
        except Overtaken:
            bench.log.info("another decision came in between: judging again")
            continue
        bench.registry.tag(bench.model, number, VERDICT_TAG, verdict.decision)
        return verdict, entry
    raise UserError(f"{bench.model}/{number}: other promotions keep coming in: try again later")


def _number(entries: Sequence[Entry], question: Question) -> int:
    """Number of this question in its epoch; one that was asked before keeps its number."""
    earlier = [e for e in entries if e.epoch == question.epoch and e.question]
    evidence = question.evidence()
    for entry in earlier:
        if entry.evidence == evidence:
            return entry.question
    return max((entry.question for entry in earlier), default=0) + 1


def _test_rows(bench: Bench) -> "pd.DataFrame":
    import pandas as pd

    path = bench.validate / "kept.parquet"
    return pd.read_parquet(path, filters=[("split", "==", "test")]).sort_values("id")


def _epoch(bench: Bench, ids: list[str], rebaseline: bool, keep: bool) -> Epoch:
    """Return the test set in use, or a new one if it is due or `rebaseline`.

    The first has all test rows; later rows form the next one as soon as there are enough of them.
    """
    ledger, enough = Ledger(bench.registry, bench.model), bench.params.epoch_rows
    with ledger.lock():
        epochs = ledger.epochs()
        known = {identity for epoch in epochs for identity in epoch.ids}
        fresh = [identity for identity in ids if identity not in known]
        left = len(set(epochs[-1].ids) & set(ids)) if epochs else 0
        if not epochs:
            rows, why = ids, "the first"
        elif rebaseline:
            rows, why = ids, "the labels have changed"
        elif len(fresh) >= enough:
            rows, why = fresh, f"{len(fresh)} new rows have arrived"
        elif left < min(len(epochs[-1].ids), bench.params.min_rows):
            rows, why = ids, f"only {left} of the last one's {len(epochs[-1].ids)} rows are left"
        else:
            return epochs[-1]
        epoch = Epoch(model=bench.model, number=len(epochs) + 1, ids=rows, why=why)
        if keep:
            ledger.open_epoch(epoch)
            bench.log.info(f"test set {epoch.number} is frozen: {len(rows):,} rows ({why})")
        return epoch


def freeze_anew(bench: Bench, verdict: Verdict) -> Verdict:
    """Freeze the test set of a rebaseline that was judged without `keep`."""
    ids = _test_rows(bench)["id"].tolist()
    epoch = _epoch(bench, ids, rebaseline=True, keep=True)
    return verdict.model_copy(update={"epoch": epoch.number})


def answers_page(bench: Bench, verdict: Verdict) -> list[tuple[str, bytes]]:
    """Answers of the judged version as a file for the ledger.

    After an update of packages `rescore` compares new answers with them.
    """
    if verdict.unfit:
        return []
    epochs = Ledger(bench.registry, bench.model).epochs()
    epoch = next(epoch for epoch in epochs if epoch.number == verdict.epoch)
    test_rows = _test_rows(bench)
    rows = test_rows[test_rows["id"].isin(epoch.ids)]
    answers = _answers(bench, verdict.version, texts_of(rows))
    answers.insert(0, "id", rows["id"].to_numpy())
    stream = io.BytesIO()
    answers.to_parquet(stream, index=False)
    return [(ANSWERS, stream.getvalue())]


def rescore(bench: Bench, number: str, rows: "pd.DataFrame") -> Rescore | None:
    """Compare a version's answers under today's packages with those that it was judged by.

    `rows` are today's, with `id`, `text` and `second`. None if the ledger has no answers of it.
    """
    import pandas as pd

    judged = [
        run
        for run, entry, _ in Ledger(bench.registry, bench.model).written()
        if entry.version == number and entry.decision
    ]
    try:
        path = bench.registry.artifact(judged[-1], ANSWERS) if judged else None
    except Unavailable:
        raise
    except UserError:
        path = None
    if path is None:
        return None
    before = _kept_answers(pd.read_parquet(path))
    left = rows[rows["id"].isin(before.index)].drop_duplicates("id").sort_values("id")
    version = f"{bench.model}/{number}"
    nothing = Rescore(version=version, rows=0, changed=0, max_difference=0.0)
    if left.empty:
        return nothing
    try:
        now = _predict(bench, number, texts_of(left))
    except Exception as error:  # the version's own code may raise anything under new packages
        return nothing.model_copy(update={"problem": _excerpt(error)})
    old = before.loc[left["id"]]
    return Rescore(
        version=version,
        rows=len(left),
        changed=int((~bench.task.same(now["label"].tolist(), old["label"].tolist())).sum()),
        max_difference=float(np.abs(now["score"].to_numpy() - old["score"].to_numpy()).max()),
    )


def _kept_answers(page: "pd.DataFrame") -> "pd.DataFrame":
    """Return `label` and `score` by ID; the oldest pages have a score of each class instead."""
    import pandas as pd

    table = page.set_index("id")
    if set(table) == {"label", "score"} and not pd.api.types.is_numeric_dtype(table["label"]):
        return table
    return pd.DataFrame({"label": table.idxmax(axis=1), "score": table.max(axis=1)})


def _side(bench: Bench, number: str, rows: "pd.DataFrame") -> Side:
    registry, model = bench.registry, bench.model
    tags = registry.version_tags(model, number)
    folder = registry.folder(model, number)
    settings = _settings(folder)
    defects = registry.damage(model, number, folder)
    defects += _foreign_task(settings, bench.task)
    defects += _foreign_tokenizer(tags.get(TOKENIZER_TAG), folder)
    defects += _trained_on(registry, model, number, tags["run"], set(rows["id"]))
    side = Side(
        version=number,
        classes=tuple(settings.get("classes") or settings.get("labels") or ()),
        answers=(),
        confidence=np.empty(0),
        defects=defects,
    )
    if defects:
        return side
    texts = texts_of(rows)
    timed = bench.params.guardrails.latency_ms is not None
    try:
        answers = _answers(bench, number, texts)
        latency = _latency(registry.load(model, number), texts[:TIMED]) if timed else 0.0
    except Unavailable:
        raise
    except Exception as error:  # the version's own code may raise anything: then it is unfit
        return replace(side, defects=[f"it does not answer: {_excerpt(error)}"])
    return replace(
        side,
        answers=answers["label"].tolist(),
        confidence=answers["score"].to_numpy(np.float64),
        latency_ms=latency,
        megabytes=size_of(folder) / 1e6,
    )


def _answers(bench: Bench, number: str, texts: Sequence[Texts]) -> "pd.DataFrame":
    """Return `label` and `score` of each row from the version as served.

    Answers are cached by the version's files, the texts and the versions of installed packages.
    """
    import pandas as pd

    files = bench.registry.files(bench.model, number)
    versions = [installed(package) for package in SERVING_PACKAGES]
    key = json.dumps(["label and score", files, versions, texts])
    path = bench.cache / f"{hashlib.sha256(key.encode()).hexdigest()}.parquet"
    if not path.exists():
        bench.log.info(f"{bench.model}/{number} answers {len(texts):,} test rows")
        table = _predict(bench, number, texts)
        with atomic_write(path) as temporary:
            table.to_parquet(temporary)
    return pd.read_parquet(path)


def _predict(bench: Bench, number: str, texts: Sequence[Texts]) -> "pd.DataFrame":
    table: pd.DataFrame = bench.registry.table(bench.model, number, texts)
    return table[["label", "score"]].astype({"label": str, "score": float})


def _excerpt(error: Exception) -> str:
    return excerpt(str(error) or type(error).__name__)


def _settings(folder: Path) -> dict[str, Any]:
    """Content of a version's serving.json; empty if it has none that can be read."""
    for path in sorted(folder.rglob("serving.json")):
        with contextlib.suppress(ValueError):
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


def _foreign_task(settings: Mapping[str, Any], task: Task) -> list[str]:
    """Return a defect if a version has another task; the oldest versions do not name theirs."""
    name = settings.get("task", "classification")
    trained = old_names.TASKS.get(name, name)
    if trained == task.name:
        return []
    return [f"it was trained for the task {trained}, and the recipe's is {task.name}"]


def _foreign_tokenizer(trained: str | None, folder: Path) -> list[str]:
    served = sorted(folder.rglob("tokenizer.json"))
    if trained and served and all(sha256_of(file) == trained for file in served):
        return []
    return ["it is served with another tokenizer.json than it was trained with"]


def _trained_on(registry: Registry, model: str, number: str, run: str, ids: set[str]) -> list[str]:
    try:
        seen = learned(registry.artifact(run, ROWS))
    except Unavailable:
        raise
    except UserError:
        return [f"{model}/{number} has no list of the rows that it was trained on"]
    leaked = sum(_text_of(name) in seen for name in ids)
    return [f"it was trained on {leaked:,} of the {len(ids):,} test rows"] if leaked else []


def _text_of(identity: str) -> str:
    """Digest of a row's text: rows with the same text differ in a suffix of their IDs."""
    return identity.partition("-")[0]


def _latency(served: Any, texts: Sequence[Texts]) -> float:
    """Median milliseconds of one answer at batch 1, after a warm-up round."""
    inputs = inputs_of(served, texts)
    times = []
    for timed in (False, True):
        for each in inputs:
            started = time.perf_counter()
            served.predict([each])
            if timed:
                times.append(1000 * (time.perf_counter() - started))
    return median(times) if times else 0.0


def _slices(rows: "pd.DataFrame", columns: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
    characters = rows["text"].str.len() + rows["second"].str.len()
    return scoring.by_length(characters.to_numpy()) | {
        f"{column}: {value}": (rows[column] == value).to_numpy()
        for column in columns
        for value in sorted(rows[column].unique())
    }
