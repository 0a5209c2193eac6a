"""Answers of a judged version compared with those under other packages."""

import pandas as pd

from pipeline.promotion.evidence import ANSWERS, Bench, rescore
from pipeline.registry.ledger import Ledger
from tests.pipeline.conftest import Home
from tests.pipeline.promotion.toys import Publish, decided


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
