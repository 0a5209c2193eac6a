"""From registered versions to the gate's question: epochs, leaks, digests, answers kept."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows import gate
from pipeline.core.errors import Unavailable, UserError
from pipeline.promotion.champion import force
from pipeline.promotion.evidence import ANSWERS, Bench, ask, ask_and_decide, rescore
from pipeline.promotion.gate import GateParams
from pipeline.registry.artifacts import ROWS
from pipeline.registry.ledger import Ledger
from pipeline.registry.records import Verdict
from pipeline.registry.versions import Registry
from pipeline.retraining.row_changes import compare, learned
from tests.pipeline.conftest import Home
from tests.pipeline.promotion.test_champion import publish_toy

Publish = Callable[..., str]


@pytest.fixture
def bench(line: Home, tracking: str, tmp_path: Path) -> Bench:
    folder = tmp_path / "validate"
    folder.mkdir()
    for name in ("kept.parquet", "validation.json"):
        shutil.copy(line.validate / name, folder)
    return Bench(
        registry=Registry(tracking),
        model="toy",
        task=line.task,
        params=line.recipe.gate,
        validate=folder,
        cache=tmp_path / "answers",
    )


@pytest.fixture
def published(line: Home, bench: Bench, tmp_path: Path) -> Publish:
    """Publishes the toy's line; `spoil` gets a copy of its folders first."""

    def publish(salt: str = "", spoil: Callable[[Home], object] | None = None) -> str:
        home, out = line, tmp_path / f"out{salt}"
        out.mkdir()
        if spoil:
            home = Home(tmp_path / f"home{salt}", line.recipe)
            shutil.copytree(line.folder, home.folder)
            spoil(home)
        return publish_toy(home, bench.registry.tracking, out, salt).version

    return publish


def with_params(bench: Bench, **changes: object) -> Bench:
    return replace(bench, params=GateParams(**(dict(bench.params) | changes)))


def decided(bench: Bench, number: str) -> Verdict:
    return ask_and_decide(bench, number, approved=True)[0]


def test_the_first_is_promoted_and_its_twin_is_a_tie(bench: Bench, published: Publish) -> None:
    first = decided(bench, published())
    assert (first.decision, first.epoch, first.question) == ("promote", 1, 0)
    test = pd.read_parquet(bench.validate / "kept.parquet", filters=[("split", "==", "test")])
    assert first.rows == len(test)
    said: list[str] = []

    class Said:
        info = staticmethod(said.append)
        progress = staticmethod(lambda *_: None)

    twin = decided(replace(bench, log=Said()), published("2"))
    assert (twin.decision, "a tie changes nothing" in twin.reason) == ("hold", True)
    assert bench.registry.champion("toy") == "1"
    # the twin's files say when they were made; the champion's answers were kept
    assert [sentence for sentence in said if "answers" in sentence] == [
        f"toy/2 answers {len(test)} test rows"
    ]
    assert ask(bench, "2") == twin


def test_a_version_keeps_its_rows_without_their_texts(
    bench: Bench, published: Publish, line: Home
) -> None:
    run = bench.registry.version_tags("toy", published())["run"]
    rows = pd.read_parquet(bench.registry.artifact(run, ROWS))
    read = pd.read_parquet(line.ingest / "rows.parquet")
    assert rows.columns.tolist() == ["id", "label", "split", "kept"]
    assert compare(rows, read).rows == 0
    kept = pd.read_parquet(line.validate / "kept.parquet")
    assert rows.loc[rows["kept"], "id"].tolist() == kept["id"].tolist()
    seen = kept.loc[kept["split"] != "test", "id"]
    assert learned(bench.registry.artifact(run, ROWS)) == set(seen)


def test_a_version_is_asked_again_what_it_was_judged_on(
    bench: Bench, published: Publish, line: Home
) -> None:
    number = published()
    rows = pd.read_parquet(line.ingest / "rows.parquet", columns=["id", "text", "second"])
    assert rescore(bench, number, rows) is None  # the ledger has nothing of it yet
    verdict = decided(bench, number)
    identity = Ledger(bench.registry, "toy").written()[0][0]
    kept = pd.read_parquet(bench.registry.artifact(identity, ANSWERS))
    assert len(kept) == verdict.rows
    same = rescore(bench, number, rows)
    assert same
    assert (same.version, same.rows, same.changed) == ("toy/1", verdict.rows, 0)
    assert same.max_difference < 1e-6

    # as if other versions had answered then
    assert kept.columns.tolist() == ["id", "label", "score"]
    keep(bench, identity, kept.assign(label=["none"] * 3 + kept["label"].tolist()[3:]))
    other = rescore(bench, number, rows)
    assert other
    assert (other.changed, other.max_difference < 1e-6) == (3, True)

    # as the ledger's pages were before there were tasks
    told = bench.registry.table("toy", number, [(text, "") for text in _texts(rows, kept)])
    named = {name: told[f"score_{name}"].to_numpy() for name in ("film", "money", "sport")}
    older = pd.DataFrame({"id": kept["id"], **named})
    keep(bench, identity, older)
    again = rescore(bench, number, rows)
    assert again
    assert (again.rows, again.changed, again.max_difference < 1e-6) == (len(kept), 0, True)
    older.loc[:2, list(named)] = 0.0
    older.loc[:2, ["film", "money"]] = [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    keep(bench, identity, older)
    truth = rescore(bench, number, rows)
    assert truth
    assert 1 <= truth.changed <= 3
    assert truth.max_difference > 0.0
    (bench.registry.folder("toy", number) / "python_model.py").write_text("raise OSError('no')")
    broken = rescore(bench, number, rows)
    assert broken
    assert "does not answer under these versions" in broken.sentence
    gone = rescore(bench, number, rows[~rows["id"].isin(kept["id"])])
    assert gone
    assert (gone.rows, "none of the rows" in gone.sentence) == (0, True)


def keep(bench: Bench, identity: str, page: pd.DataFrame) -> None:
    path = bench.registry.artifact(identity, ANSWERS)
    page.to_parquet(path)
    bench.registry.client.log_artifact(identity, str(path))


def _texts(rows: pd.DataFrame, kept: pd.DataFrame) -> list[str]:
    return [str(text) for text in rows.set_index("id").loc[kept["id"], "text"]]


def test_answers_under_other_versions_are_not_taken_from_before(
    bench: Bench, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = published()
    decided(bench, number)
    kept = set(bench.cache.iterdir())
    monkeypatch.setattr("pipeline.promotion.evidence.installed", lambda package: "99")
    ask(bench, number)
    assert len(set(bench.cache.iterdir()) - kept) == 1


def test_a_test_row_that_was_trained_on_is_a_leak(bench: Bench, published: Publish) -> None:
    decided(bench, published())

    verdict = decided(bench, published("leak", leaked(3)))
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert "it was trained on 3 of the" in verdict.reason


def test_an_mlflow_that_fails_makes_no_version_unfit(
    bench: Bench, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = published()

    def fail(*_: object) -> None:
        raise Unavailable("MLflow does not answer")

    for call in ("artifact", "table"):
        with monkeypatch.context() as patch, pytest.raises(Unavailable):
            patch.setattr(bench.registry, call, fail)
            ask(bench, number)


def test_another_tokenizer_than_the_trained_one_is_unfit(bench: Bench, published: Publish) -> None:
    def swap(home: Home) -> None:
        path = home.export / "tokenizer.json"
        path.write_text(path.read_text(encoding="utf-8").replace("goal", "gaol"), encoding="utf-8")

    verdict = decided(bench, published("swap", swap))
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert "another tokenizer.json than it was trained with" in verdict.reason
    assert bench.registry.champion("toy") is None


def test_a_version_of_another_task_is_unfit(bench: Bench, published: Publish) -> None:
    def of_pairs(home: Home) -> None:
        path = home.export / "serving.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"task": "pair"}))

    verdict = decided(bench, published("pair", of_pairs))
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert verdict.reason == "it was trained for the task pair, and the recipe's is classification"


def test_a_model_that_does_not_load_is_unfit(bench: Bench, published: Publish) -> None:
    def cut(home: Home) -> None:
        for path in home.export.glob("*.onnx"):
            path.write_bytes(path.read_bytes()[:1000])

    verdict = decided(bench, published("cut", cut))
    assert verdict.unfit
    assert "it does not answer" in verdict.reason


def test_new_rows_wait_until_they_make_the_next_test_set(bench: Bench, published: Publish) -> None:
    bench = with_params(bench, epoch_rows=10)
    number = published()
    assert decided(bench, number).rows == (
        first := len(Ledger(bench.registry, "toy").epochs()[0].ids)
    )
    kept = pd.read_parquet(bench.validate / "kept.parquet")

    def arrive(count: int) -> None:
        fresh = kept[kept["split"] == "test"].head(count).copy()
        fresh["id"] = [f"{place:020x}" for place in range(count)]
        pd.concat([kept, fresh]).to_parquet(bench.validate / "kept.parquet")

    arrive(9)
    assert (ask(bench, number).epoch, ask(bench, number).rows) == (1, first)
    arrive(10)
    assert (ask(bench, number).epoch, ask(bench, number).rows) == (2, 10)
    kept[kept["split"] != "test"].to_parquet(bench.validate / "kept.parquet")
    assert ask(bench, number).reason == "there are no test rows to judge it on"


def test_questions_are_counted_once_and_cost_more_each_time(
    bench: Bench, published: Publish
) -> None:
    decided(bench, published())

    def answer_alone(place: int) -> Callable[[Home], None]:
        def change(home: Home) -> None:
            from onnx import load, numpy_helper, save

            for path in home.export.glob("*.onnx"):
                model = load(path)
                for tensor in model.graph.initializer:
                    if tensor.name.endswith("classifier.bias"):
                        bias = numpy_helper.to_array(tensor).copy()
                        bias[place] += 50.0  # it answers one class alone
                        tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
                save(model, path)

        return change

    bench = with_params(bench, min_discordant=1, floors={"accuracy": 0.0})
    verdicts = [decided(bench, published(f"b{place}", answer_alone(place))) for place in range(2)]
    reasons = [verdict.reason for verdict in verdicts]
    assert [verdict.question for verdict in verdicts] == [1, 2], reasons
    assert [verdict.level for verdict in verdicts] == [0.05 / 2, 0.05 / 6]
    assert decided(bench, "2") == verdicts[0]  # the same question, not a third
    assert [entry.question for entry in Ledger(bench.registry, "toy").entries()] == [0, 1, 2]


def test_a_champion_by_hand_can_be_judged_afterwards(bench: Bench, published: Publish) -> None:
    decided(bench, published())
    number = published("2")
    bench.registry.move("toy", number)
    verdict, entry = ask_and_decide(bench, number, approved=True)
    assert (verdict.decision, verdict.champion) == ("hold", "1")
    assert entry is not None
    assert [entry.event for entry in Ledger(bench.registry, "toy").entries()] == [
        "promote",
        "by hand",
        "hold",
    ]
    assert bench.registry.champion("toy") == number
    assert ask_and_decide(bench, number, approved=True)[1] is None


def test_changed_labels_go_through_a_new_baseline(bench: Bench, published: Publish) -> None:
    decided(bench, published())

    def rename(home: Home) -> None:
        path = home.export / "serving.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"sport"', '"games"'))

    number = published("renamed", rename)
    path = bench.validate / "validation.json"
    path.write_text(path.read_text().replace('"sport"', '"games"'))
    kept = pd.read_parquet(bench.validate / "kept.parquet").replace({"label": {"sport": "games"}})
    kept.to_parquet(bench.validate / "kept.parquet")
    verdict = decided(bench, number)
    assert verdict.decision == "hold"
    assert "'sport' gone and 'games' new" in verdict.reason
    assert f"bertline promote toy/{number} --rebaseline" in verdict.reason
    alone = ask(bench, number, rebaseline=True)
    assert (alone.decision, alone.champion, alone.epoch) == ("promote", None, 2)
    force(bench.registry, "rebaseline", "sport is games now", alone)
    assert bench.registry.champion("toy") == number
    with pytest.raises(UserError, match="give a reason"):
        force(bench.registry, "rebaseline", "", alone)


def test_a_test_set_is_frozen_anew_only_by_a_rebaseline_that_is_carried_out(
    bench: Bench, published: Publish
) -> None:
    number = published()
    decided(bench, number)
    high = with_params(bench, floors={"accuracy": 1.0, "macro_f1": 1.0})
    path = bench.validate / "kept.parquet"
    kept = pd.read_parquet(path)
    wrong = kept["split"].eq("test") & kept["label"].eq("sport")
    kept.assign(label=kept["label"].mask(wrong, "film")).to_parquet(path)
    for _ in range(2):
        with pytest.raises(UserError, match="is below the floor"):
            gate.overrule(high, "rebaseline", number, "the labels are others now")
    assert [epoch.number for epoch in Ledger(bench.registry, "toy").epochs()] == [1]
    low = with_params(bench, floors={"accuracy": 0.0})
    verdict = gate.overrule(low, "rebaseline", number, "the labels are others now")
    assert (
        [epoch.number for epoch in Ledger(bench.registry, "toy").epochs()]
        == [1, verdict.epoch]
        == [1, 2]
    )
    assert set(Ledger(bench.registry, "toy").epochs()[1].ids) == set(
        kept.loc[kept["split"] == "test", "id"]
    )
    identity, entry, _ = Ledger(bench.registry, "toy").written()[-1]
    assert (entry.event, entry.epoch) == ("rebaseline", 2)
    assert len(pd.read_parquet(bench.registry.artifact(identity, ANSWERS))) == verdict.rows


def spoiled_onnx(change: Callable[[str, np.ndarray], np.ndarray | None]) -> Callable[[Home], None]:
    """Changes initializers of every exported model by name."""

    def spoil(home: Home) -> None:
        from onnx import load, numpy_helper, save

        for path in home.export.glob("*.onnx"):
            model = load(path)
            for tensor in model.graph.initializer:
                changed = change(tensor.name, numpy_helper.to_array(tensor).copy())
                if changed is not None:
                    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
            save(model, path)

    return spoil


def other_labels(names: list[str]) -> Callable[[Home], None]:
    def spoil(home: Home) -> None:
        path = home.export / "serving.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"classes": names}))

    return spoil


def other_tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Home], None]:
    def spoil(home: Home) -> None:
        path = home.export / "tokenizer.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def leaked(rows: int) -> Callable[[Home], None]:
    def spoil(home: Home) -> None:
        kept = set(pd.read_parquet(home.validate / "kept.parquet")["id"])
        read = pd.read_parquet(home.ingest / "rows.parquet")
        asked = read["id"].isin(kept) & (read["split"] == "test")
        read.loc[read.index[asked][:rows], "split"] = "train"
        read.to_parquet(home.ingest / "rows.parquet")

    return spoil


def noisy(seed: int) -> Callable[[Home], None]:
    """As a quantization that has lost the weights."""
    random = np.random.default_rng(seed)

    def change(name: str, values: np.ndarray) -> np.ndarray | None:
        if values.ndim != 2:
            return None
        if values.dtype == np.float32:
            return np.asarray(random.normal(size=values.shape), dtype=np.float32)
        return np.asarray(random.permuted(values), dtype=values.dtype)

    return spoiled_onnx(change)


def not_numbers(value: float, place: int | None) -> Callable[[Home], None]:
    def change(name: str, values: np.ndarray) -> np.ndarray | None:
        if not name.endswith("classifier.bias"):
            return None
        values[place if place is not None else slice(None)] = value
        return values

    return spoiled_onnx(change)


def dropped(content: dict[str, Any], word: str) -> None:
    del content["model"]["vocab"][word]


BAD: dict[str, tuple[str, list[Callable[[Home], None]]]] = {
    "labels changed": (
        "other labels than the rows have",
        [
            other_labels(["film", "money", "games"]),
            other_labels(["sport", "money", "film"]),
            other_labels(["money", "film", "sport"]),
            other_labels(["Film", "Money", "Sport"]),
            other_labels(["x", "y", "z"]),
        ],
    ),
    "tokenizer changed": (
        "another tokenizer.json",
        [
            other_tokenizer(lambda content: content.update(normalizer=None)),
            other_tokenizer(lambda content: dropped(content, "goal")),
            other_tokenizer(lambda content: dropped(content, "oscar")),
            other_tokenizer(lambda content: content["model"].update(unk_token="[PAD]")),
            other_tokenizer(lambda content: content.update(pre_tokenizer={"type": "Whitespace"})),
        ],
    ),
    "leaked rows": ("it was trained on", [leaked(rows) for rows in (1, 2, 5, 10, 10_000)]),
    "quantized worse": ("", [noisy(seed) for seed in range(5)]),
    "not numbers": (
        "",  # told as no numbers, or as no answer where numpy's warnings are errors
        [
            not_numbers(np.nan, None),
            not_numbers(np.nan, 0),
            not_numbers(np.nan, 2),
            not_numbers(np.inf, 1),
            not_numbers(np.inf, None),
        ],
    ),
}


@pytest.mark.prove
def test_of_thirty_bad_challengers_none_is_promoted(bench: Bench, published: Publish) -> None:
    bench = with_params(bench, floors={"accuracy": 0.0})
    decided(bench, published())
    reasons: list[str] = []
    for kind, (told, spoils) in BAD.items():
        for place, spoil in enumerate(spoils):
            verdict = decided(bench, published(f"{kind} {place}", spoil))
            reasons.append(f"{kind}: {verdict.decision}: {verdict.reason}")
            assert verdict.decision != "promote", reasons[-1]
            assert told in verdict.reason, reasons[-1]
    # late ones would be the first champion, were they not late
    bench.registry.client.delete_registered_model_alias("toy", "champion")
    for place in range(5):
        guardrails = bench.params.guardrails.model_copy(update={"latency_ms": 1e-3 * (place + 1)})
        late = with_params(bench, guardrails=guardrails)
        verdict = decided(late, published(f"late {place}"))
        reasons.append(f"late: {verdict.decision}: {verdict.reason}")
        assert verdict.decision == "reject", reasons[-1]
        assert "guardrail latency: " in verdict.reason, reasons[-1]
    print("\n".join(reasons))
    assert len(reasons) == 30
    assert bench.registry.champion("toy") is None
