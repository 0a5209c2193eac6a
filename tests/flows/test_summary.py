"""What a line found, as lines that people read."""

from flows.summary import behaviour_rows
from pipeline.records import Behaviour, Scores


def test_a_behaviour_test_that_fails_is_marked() -> None:
    one = Behaviour(
        name="typos",
        suite="topic",
        kind="invariance",
        cases=20,
        failed=3,
        share=0.15,
        allowed=0.1,
        examples=[],
    )
    other = one.model_copy(update={"allowed": 0.15})
    none = one.model_copy(update={"cases": 0, "share": 0.0})
    rows = behaviour_rows(Scores.model_construct(behaviour=[one, other, none]))
    assert [row[""] for row in rows] == ["fails", "", "no row to change"]
    assert rows[0]["failed"] == "15.0%"
