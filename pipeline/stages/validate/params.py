"""Parameters of validate."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.config import Settings

if TYPE_CHECKING:
    pass


Policy = Literal["fail", "quarantine", "warn"]
Strict = Literal["fail", "quarantine"]  # such a row cannot be trained on


class Rules(Settings):
    """The policy of each rule, in the order in which a row's fate is decided."""

    undecodable: Strict
    """The row cannot be read (bad UTF-8, broken quoting, not JSON), or its label is none."""
    unlabelled: Strict
    """Its label is empty."""
    unknown_label: Strict
    """A class of its label is not among `labels`, or no training row has it."""
    blank: Strict
    """No visible character; of two texts, in one of them."""
    control_characters: Policy
    """NUL or another control character of ASCII besides tab, line feed and carriage return."""
    too_long: Policy
    """Longer than `max_characters`."""
    conflicting_labels: Policy
    """The same text (here and below: both, where there are two) stands elsewhere under another
    label; where groups are ranked, in the same group."""
    leak: Policy
    """The same text stands in a more precious split (test before validation before train)."""
    duplicate: Policy
    """The same text stands earlier in the same split, or in the same group where groups are
    ranked."""
    near_duplicate: Policy
    """Nearly the same text stands in a more precious split. Of two texts each is compared with its
    own, so that rows that share one long text are no copies."""


class NearDuplicates(Settings):
    similarity: float = Field(ge=0.75, lt=1)
    """Jaccard similarity of two texts' sets of character n-grams from which they are one.
    Below 0.75 the search for candidates would miss too many."""
    characters: int = Field(ge=1, le=20)
    """n of the n-grams: 5 suits texts with spaces, 3 Chinese and very short ones. A text of fewer
    characters is near to the same text alone."""


class ValidateParams(Settings):
    labels: list[str] | None
    """The classes, in the model's order; null takes those of the training rows, sorted. Null too
    where a task has no classes."""
    max_characters: int = Field(gt=0)
    """Characters, of each text."""
    min_rows: int = Field(ge=1)
    """Fewest rows of each split, after quarantine."""
    max_quarantine_percent: float = Field(ge=0, le=100)
    """Largest share of all rows: more than this ends the line."""
    near_duplicates: NearDuplicates
    rules: Rules
