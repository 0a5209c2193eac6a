"""Parameters of validate."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import Settings

Policy = Literal["fail", "quarantine", "warn"]
Strict = Literal["fail", "quarantine"]  # such a row cannot be trained on


class Rules(Settings):
    """Policy of each rule. A row is set aside under the first of these rules that flags it."""

    undecodable: Strict
    """Row that cannot be read (bad UTF-8, broken quoting, not JSON) or has an invalid label."""
    unlabelled: Strict
    """Row with an empty label."""
    unknown_label: Strict
    """Row with a class that is not among `labels`, or that no training row has."""
    blank: Strict
    """Row without a visible character in its text, or in one of its two texts."""
    control_characters: Policy
    """NUL or another control character of ASCII besides tab, line feed and carriage return."""
    too_long: Policy
    """Text of more than `max_characters`."""
    conflicting_labels: Policy
    """The same text (here and below: both, if a row has two) elsewhere under another label; in
    ranking tasks, in the same group."""
    leak: Policy
    """The same text in a more precious split (test before validation before train)."""
    duplicate: Policy
    """The same text earlier in the same split; in ranking tasks, in the same group."""
    near_duplicate: Policy
    """Nearly the same text in a more precious split. If rows have two texts, first is compared with
    first and second with second, so rows that share one long text are no copies."""


RULES = tuple(Rules.model_fields)


class NearDuplicates(Settings):
    similarity: float = Field(ge=0.75, lt=1)
    """Least Jaccard similarity of near copies, between their sets of character n-grams. Below 0.75
    the search for candidates would miss too many."""
    characters: int = Field(ge=1, le=20)
    """Length n of the n-grams: 5 suits texts with spaces, 3 Chinese and very short ones. A shorter
    text is a near copy of the same text only."""


class ValidateParams(Settings):
    labels: list[str] | None
    """Classes in the model's order; null takes those of the training rows, sorted. Null also if the
    task has no classes."""
    max_characters: int = Field(gt=0)
    """Most characters of a text."""
    min_rows: int = Field(ge=1)
    """Fewest rows of each split, after quarantine."""
    max_quarantine_percent: float = Field(ge=0, le=100)
    """Largest share of rows that may be set aside; more than this stops the pipeline."""
    near_duplicates: NearDuplicates
    rules: Rules
