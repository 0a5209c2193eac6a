"""What later stages read of the kept rows."""

import pandas as pd

from pipeline.kept import groups_of


def test_a_row_without_a_group_is_one_by_itself() -> None:
    rows = pd.DataFrame({"id": ["1", "2", "3"], "group": ["", "a", ""]})
    assert groups_of(rows) == ["1", "a", "3"]
    assert groups_of(rows.iloc[[0, 2]]) is None
