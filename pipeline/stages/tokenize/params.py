"""Parameters of tokenize."""

from typing import Any, Self

from pydantic import Field, model_validator

from pipeline.core.config import Settings
from pipeline.models.heads import head_of
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import LongText


class Vocabulary(Settings):
    """Settings of a WordPiece vocabulary that is learned from training rows (Wu et al. 2016)."""

    size: int = Field(ge=100)
    """Most tokens of the vocabulary."""
    lower_case: bool
    """True if letters lose their case and their accents, as in BERT's uncased vocabularies."""
    min_frequency: int = Field(ge=1)
    """Least number of times that two parts of a word occur together before they are joined."""


class Masking(Settings):
    """Settings of masking, for tasks that predict masked tokens: 80 % of these become [MASK], 10 %
    another token, and 10 % stay (Devlin et al. 2019)."""

    probability: float = Field(gt=0, lt=1)
    """Share of the tokens that are masked."""
    whole_words: bool
    """True if either all tokens of a word are masked or none."""
    packed: bool
    """True if documents are joined so that all training passages are full (Liu et al. 2019); else
    each passage is of one document, and may be shorter. Pairs need passages of one document."""


class TokenizeParams(Settings):
    max_length: int = Field(ge=8, le=8192)
    """Longest input of the model in tokens, special tokens included."""
    long_text: LongText
    """Treatment of longer texts: truncate keeps the beginning, head_tail a quarter from the
    beginning and the rest from the end (Sun et al. 2019), windows the whole text in pieces."""
    overlap: int = Field(ge=0)
    """Tokens that one window shares with the next."""
    symmetric: bool
    """True if each training row is used twice, with its texts in both orders: for pairs without an
    order, such as paraphrases."""
    vocabulary: Vocabulary | None
    """Settings of a learned vocabulary: of the target if the task writes text, else of the source.
    A base from scratch needs one; other bases bring their own (null)."""
    masking: Masking | None
    """Settings of masking; null for tasks that predict no masked tokens."""

    @property
    def masked(self) -> dict[str, Any] | None:
        """Settings of `masking` as plain values."""
        return self.masking.model_dump() if self.masking else None

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap and self.long_text != "windows":
            raise ValueError("overlap is for windows only: set it to 0, or long_text to windows")
        if self.overlap > self.max_length // 2:
            raise ValueError("overlap is more than half of max_length: make it smaller")
        return self


def check(params: TokenizeParams, task: Task) -> None:
    """Raise ValueError, beginning with the key, for settings that do not fit the task."""
    writes = head_of(task).generates
    if writes and not params.vocabulary:
        raise ValueError(f"vocabulary: {task.name} writes text: give its vocabulary's settings")
    if writes and params.long_text != "truncate":
        raise ValueError(f"long_text: {task.name} reads a text in one piece: set it to truncate")
    if params.masking and not task.dynamic_masking:
        raise ValueError(f"masking: {task.name} predicts no masked tokens: set it to null")
    if task.dynamic_masking and not params.masking:
        raise ValueError(f"masking: {task.name} predicts masked tokens: give their probability")
    if params.masking and params.masking.packed and task.with_neighbour:
        raise ValueError(
            f"masking.packed: {task.name} splits passages of one document: set it to false, or task"
            " to masked_lm"
        )
    if task.dynamic_masking and (params.long_text != "windows" or params.overlap):
        raise ValueError(
            f"long_text: {task.name} reads the whole text, each token once: set it to windows, and"
            " overlap to 0"
        )
    if params.long_text == "head_tail" and (task.two_texts or task.offsets):
        raise ValueError(
            f"long_text: head_tail is for tasks that score one text, not for {task.name}: set it to"
            " truncate or windows"
        )
    if params.symmetric and not task.symmetric:
        raise ValueError(
            f"symmetric: the order of the texts matters for {task.name}: set it to false"
        )
