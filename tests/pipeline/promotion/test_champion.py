"""The champion's alias and the ledger: promotions, rollbacks, crashes and moves by hand."""

import pytest

from pipeline.core.errors import Unavailable, UserError
from pipeline.promotion import champion as promotion
from pipeline.registry.ledger import Ledger
from pipeline.registry.versions import Registry
from tests.pipeline.promotion.toys import history, promote, verdict
from tests.pipeline.registry.toys import Versions


def test_the_ledger_tells_promotions_and_rollbacks_in_order(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "3"):
        promote(registry, number)
    promotion.rollback(registry, "toy")
    assert registry.champion("toy") == "2"
    promote(registry, "4")
    promotion.rollback(registry, "toy")
    promotion.rollback(registry, "toy")
    assert registry.champion("toy") == "1"
    with pytest.raises(UserError, match="toy/1: has no predecessor"):
        promotion.rollback(registry, "toy")
    assert history(registry) == [
        ("promote", "1", None),
        ("promote", "2", "1"),
        ("promote", "3", "2"),
        ("rollback", "2", "3"),
        ("promote", "4", "2"),
        ("rollback", "2", "4"),
        ("rollback", "1", "2"),
    ]
    lived = promotion.reigns(Ledger(registry, "toy").entries())
    assert [(reign.version, reign.ended) for reign in lived] == [
        ("1", "promote"),
        ("2", "promote"),
        ("3", "rollback"),
        ("2", "promote"),
        ("4", "rollback"),
        ("2", "rollback"),
        ("1", None),
    ]


def crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_crash_between_entry_and_alias_is_carried_out_at_the_next_look(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Versions(tracking)
    promote(registry, "1")

    monkeypatch.setattr(Registry, "move", crash)
    with pytest.raises(KeyboardInterrupt):
        promote(registry, "2")
    monkeypatch.undo()
    assert registry.champion("toy") == "1"
    assert promotion.champion_of(registry, "toy") == "2"
    assert registry.champion("toy") == "2"
    assert history(registry) == [("promote", "1", None), ("promote", "2", "1")]


def test_a_crash_while_a_hand_is_written_down_leaves_the_alias_where_it_is(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Versions(tracking)
    promote(registry, "1")

    def look_and_crash() -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Ledger, "settle", crash)
            promotion.champion_of(registry, "toy")

    registry.client.delete_registered_model_alias("toy", "champion")
    look_and_crash()
    assert promotion.champion_of(registry, "toy") is None
    registry.move("toy", "2")
    look_and_crash()
    registry.move("toy", "3")
    assert promotion.champion_of(registry, "toy") == registry.champion("toy") == "3"
    assert history(registry) == [
        ("promote", "1", None),
        ("by hand", "", "1"),
        ("by hand", "2", None),
        ("by hand", "3", "2"),
    ]


def test_an_alias_moved_by_hand_is_taken_in_and_can_be_rolled_back(tracking: str) -> None:
    registry = Versions(tracking)
    registry.move("toy", "3")  # before there is any ledger
    assert promotion.champion_of(registry, "toy") == "3"
    promote(registry, "1")
    registry.move("toy", "2")
    assert promotion.champion_of(registry, "toy") == "2"
    assert promotion.champion_of(registry, "toy") == "2"
    assert history(registry) == [
        ("by hand", "3", None),
        ("promote", "1", "3"),
        ("by hand", "2", "1"),
    ]
    assert "gate not asked" in Ledger(registry, "toy").entries()[-1].reason
    assert promotion.rollback(registry, "toy").version == "1"
    registry.client.delete_registered_model_alias("toy", "champion")
    assert promotion.champion_of(registry, "toy") is None
    assert history(registry)[-1] == ("by hand", "", "1")
    promote(registry, "4")
    assert promotion.rollback(registry, "toy").version == "1"


def test_a_champion_promoted_twice_is_rolled_back_to_its_predecessor(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "2"):
        promote(registry, number)
    assert promotion.rollback(registry, "toy").version == "1"


def test_what_a_better_one_replaced_may_come_back_by_itself(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "1"):
        promote(registry, number)
    assert registry.champion("toy") == "1"


@pytest.mark.parametrize(
    "call",
    [
        *("get_model_version_by_alias", "get_model_version", "set_registered_model_alias"),
        *("create_registered_model", "search_runs", "create_run", "set_tag"),
    ],
)
def test_an_mlflow_that_fails_is_told_in_one_line_and_is_no_hand(
    tracking: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    registry = Versions(tracking)
    promote(registry, "1")
    promotion.champion_of(registry, "toy")

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("database is locked\n[SQL: SELECT 1]", TEMPORARILY_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, fail)
        judged = verdict("2", "1")
        with pytest.raises(Unavailable, match=r"^MLflow at sqlite:.*: database is locked$"):
            promotion.decide(registry, judged, approved=True)
    promote(registry, "2")  # where it is not there already
    assert promotion.champion_of(registry, "toy") == "2"
    assert history(registry) == [("promote", "1", None), ("promote", "2", "1")]
