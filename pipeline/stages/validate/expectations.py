"""Great Expectations: the suite for training data, and its Data Docs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.files import write_text
from pipeline.core.records import SPLITS
from pipeline.stages.validate import shortfalls

if TYPE_CHECKING:
    import pandas as pd

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


@dataclass(frozen=True)
class Outcome:
    asserted: int
    met: int
    unmet: list[str]
    """Sentences on the expectations that are not met."""


def training_suite(
    *,
    labels: list[str] | None,
    labelled: bool,
    max_characters: int | None,
    min_rows: int,
    fewest_kept: int,
    clean_flags: list[str],
) -> list[Any]:
    """Return the expectations on the kept rows of all splits.

    `labels` lists all allowed labels, if they can be listed. Of texts, the suite checks the lengths
    of a row's shortest and longest.
    """
    import great_expectations.expectations as gxe

    suite = [
        gxe.ExpectTableRowCountToBeBetween(min_value=fewest_kept),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnValuesToBeOfType(column="label", type_="str"),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="split", value_set=list(SPLITS)),
    ]
    if labelled:
        suite.append(gxe.ExpectColumnUniqueValueCountToBeBetween(column="label", min_value=2))
    suite += [
        gxe.ExpectColumnValuesToBeBetween(column="fewest_characters", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(
            column="most_characters", min_value=1, max_value=max_characters
        ),
    ]
    if labels is not None:
        suite.append(gxe.ExpectColumnDistinctValuesToBeInSet(column="label", value_set=labels))
    # every split must hold rows: expectations on values are met by an empty split
    for split in SPLITS:
        suite.append(gxe.ExpectColumnSumToBeBetween(column=f"in_{split}", min_value=min_rows))
    for flag in clean_flags:
        suite.append(gxe.ExpectColumnSumToBeBetween(column=flag, max_value=0))
    return suite


def assert_suite(expectations: list[Any], rows: "pd.DataFrame", of: int, docs: Path) -> Outcome:
    """Run a suite on the rows that are kept `of` all, and write its Data Docs page as
    docs/index.html."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    flags = [column for column in rows.columns if rows[column].dtype == bool]
    table = rows.assign(
        **{flag: rows[flag].astype(int) for flag in flags},
        **{f"in_{split}": (rows["split"] == split).astype(int) for split in SPLITS},
    )
    # the suite expects Python's str, not one of pandas' string types
    table = table.astype({"label": object})
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    batch = (
        context.data_sources.add_pandas("rows")
        .add_dataframe_asset("kept")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = context.suites.add(gx.ExpectationSuite(name="training rows", expectations=expectations))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="training rows", data=batch, suite=suite)
    )
    result = definition.run(batch_parameters={"dataframe": table}, result_format="SUMMARY")
    if len(result.results) != len(expectations):
        raise AssertionError(f"{len(result.results)} of {len(expectations)} expectations were run")
    page = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    write_text(docs / "index.html", str(DefaultJinjaPageView().render(page)))
    unmet = [_sentence(item, of) for item in result.results if not item.success]
    sentences = [sentence for sentence in unmet if sentence]
    return Outcome(len(expectations), len(expectations) - len(unmet), sentences)


def _sentence(item: Any, of: int) -> str:
    settings = item.expectation_config.kwargs
    column = settings.get("column", "")
    seen = item.result.get("observed_value", item.exception_info)
    wanted = {k: v for k, v in settings.items() if k not in ("column", "batch_id", "type_")}
    least = wanted.get("min_value")
    match item.expectation_config.type:
        case "expect_table_row_count_to_be_between":
            return shortfalls.rows(int(seen), int(least or 0), of)
        case "expect_column_unique_value_count_to_be_between":
            return shortfalls.labels(int(seen))
        case "expect_column_sum_to_be_between" if column.startswith("in_"):
            return shortfalls.split(column.removeprefix("in_"), int(seen), int(least or 0))
        case "expect_column_distinct_values_to_equal_set" if not set(seen or ()) - set(SPLITS):
            return ""  # a split without rows: its sum tells that
        case kind:
            return f"{kind} on {column!r}: found {seen}, wanted {wanted}"
