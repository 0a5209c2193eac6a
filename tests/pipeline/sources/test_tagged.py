"""Tokens with tags become texts with spans, or are refused by file and line."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.sources import Layout, Row
from tests.pipeline.sources.reading import Rows, bad, good, read, write

WORD_TAGS = Layout("word_tags")


def conll(folder: Path, text: str, name: str = "a.conll") -> Rows:
    return read(write(folder, name, text.encode()), ("text", "label", "tokens", "document"))


def named(rows: Rows) -> list[list[tuple[str, str]]]:
    """Text and type of each span of each row."""
    return [
        [(row.fields["text"][start:end], kind) for start, end, kind in spans]
        for row in rows
        if isinstance(row, Row)
        for spans in [json.loads(row.fields["label"])]
    ]


def column(tokens: str, tags: str) -> str:
    pairs = zip(tokens.split(), tags.split(), strict=True)
    return "".join(f"{token} {tag}\n" for token, tag in pairs) + "\n"


def test_a_sentence_is_a_row_with_its_tokens_and_document(tmp_path: Path) -> None:
    text = (
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n"
        "-DOCSTART- -X- -X- O\n\n\nPeter NNP B-NP B-PER\nBlackburn NNP I-NP I-PER"
    )
    rows = conll(tmp_path, text, "a.txt")
    assert [(row.number, dict(row.fields)) for row in rows if isinstance(row, Row)] == [
        (3, {"text": "EU rejects", "label": '[[0, 2, "ORG"]]', "tokens": '["EU", "rejects"]'}
        | {"document": "1"}),
        (9, {"text": "Peter Blackburn", "label": '[[0, 15, "PER"]]'}
        | {"tokens": '["Peter", "Blackburn"]', "document": "2"}),
    ]  # fmt: skip


DOCUMENTS = Layout("conll_documents")
NEWS = (
    "-DOCSTART- O\n\nEU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n\n"
    "-DOCSTART- O\n\n法 B-LOC\n国 I-LOC\nsays O\n"
)


def documents(folder: Path, text: str) -> Rows:
    file = write(folder, "a.conll", text.encode())
    return read(file, ("text", "label", "tokens", "document"), DOCUMENTS)


def test_a_document_is_a_row_whose_sentences_are_lines(tmp_path: Path) -> None:
    rows = documents(tmp_path, NEWS)
    assert [row.number for row in rows] == [3, 11]
    assert good(rows, ("text", "document")) == [
        ("EU rejects\nPeter Blackburn", "1"),
        ("法国 says", "2"),
    ]
    assert named(rows) == [[("EU", "ORG"), ("Peter Blackburn", "PER")], [("法国", "LOC")]]
    assert [json.loads(*tokens) for tokens in good(rows, ("tokens",))] == [
        ["EU", "rejects", "Peter", "Blackburn"],
        ["法", "国", "says"],
    ]


def test_a_line_that_is_wrong_costs_its_document_and_no_other(tmp_path: Path) -> None:
    rows = documents(tmp_path, NEWS.replace("Blackburn I-PER", "Blackburn"))
    assert bad(rows) == [(7, "has 1 columns where the file has 2")]
    assert good(rows, ("text",)) == [("法国 says",)]


def test_sentences_of_no_document_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: no -DOCSTART- line stands before it.* to conll$"):
        documents(tmp_path, "EU B-ORG\n\nPeter B-PER\n")


SENTENCE = "New York and Berlin Paris Oslo"
FOUND = [("New York", "LOC"), ("Berlin", "LOC"), ("Paris", "LOC"), ("Oslo", "ORG")]
SCHEMES = {
    "IOB2": "B-LOC I-LOC O B-LOC B-LOC B-ORG",
    "IOB1": "I-LOC I-LOC O I-LOC B-LOC I-ORG",
    "BIOES": "B-LOC E-LOC O S-LOC S-LOC S-ORG",
    "BILOU": "B-LOC L-LOC O U-LOC U-LOC U-ORG",
    "BMES": "B-LOC E-LOC O S-LOC S-LOC S-ORG",
}
LONG = {
    "IOB2": "B-LOC I-LOC I-LOC",
    "IOB1": "I-LOC I-LOC I-LOC",
    "BIOES": "B-LOC I-LOC E-LOC",
    "BILOU": "B-LOC I-LOC L-LOC",
    "BMES": "B-LOC M-LOC E-LOC",
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("suffix", [".conll", ".bio", ".bioes", ".bmes", ".iob", ".txt"])
def test_a_scheme_is_told_from_the_file_as_a_whole(
    tmp_path: Path, scheme: str, suffix: str
) -> None:
    text = column(SENTENCE, SCHEMES[scheme]) + column("Rio de Janeiro", LONG[scheme])
    rows = conll(tmp_path, text, f"a{suffix}")
    assert named(rows) == [FOUND, [("Rio de Janeiro", "LOC")]]


@pytest.mark.parametrize(
    ("scheme", "tags", "line", "reason"),
    [
        ("IOB2", "O I-LOC", 11, "its tag 'I-LOC' follows 'O', against IOB2"),
        ("IOB2", "I-LOC O", 10, "its tag 'I-LOC' begins a sentence, against IOB2"),
        ("IOB2", "B-LOC I-ORG", 11, "its tag 'I-ORG' follows 'B-LOC', against IOB2"),
        ("IOB1", "I-ORG B-LOC", 11, "its tag 'B-LOC' follows 'I-ORG', against IOB1"),
        ("BIOES", "O B-LOC", 11, "its tag 'B-LOC' ends a sentence, against BIOES"),
        ("BIOES", "B-LOC S-LOC", 11, "its tag 'S-LOC' follows 'B-LOC', against BIOES"),
        ("BILOU", "O L-LOC", 11, "its tag 'L-LOC' follows 'O', against BILOU"),
        ("BMES", "B-LOC O", 11, "its tag 'O' follows 'B-LOC', against BMES"),
        ("IOB2", "O LOC", 11, "its tag 'LOC' is not IOB2 (O, B-TYPE, I-TYPE)"),
        ("IOB2", "O B-", 11, "its tag 'B-' is not IOB2 (O, B-TYPE, I-TYPE)"),
        ("IOB2", "O E-LOC", 11, "its tag 'E-LOC' is not IOB2 (O, B-TYPE, I-TYPE)"),
        ("BMES", "O I-X", 11, "its tag 'I-X' is not BMES (O, B-TYPE, M-TYPE, E-TYPE, S-TYPE)"),
    ],
)
def test_a_tag_that_is_against_the_scheme_costs_its_sentence_and_is_named(
    tmp_path: Path, scheme: str, tags: str, line: int, reason: str
) -> None:
    sound = column(SENTENCE, SCHEMES[scheme]), column("Rio", LONG[scheme].split()[0])
    text = sound[0] + "\n\n" + column("here it", tags) + column("Rio de Janeiro", LONG[scheme])
    rows = conll(tmp_path, text)
    assert bad(rows) == [(line, reason)]
    assert len(named(rows)) == 2


def tagged(lengths: list[tuple[int, str]], scheme: str) -> tuple[list[str], list[list[object]]]:
    """Tags of entities ("" is outside) and their spans, of tokens of one character each."""
    letters = {"BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}.get(scheme, "BIII")
    tags: list[str] = []
    spans: list[list[object]] = []
    for length, kind in lengths:
        if not kind:
            tags += ["O"] * length
            continue
        spans.append([2 * len(tags), 2 * (len(tags) + length) - 1, kind])
        begin, inside, end, single = letters
        if scheme == "IOB1" and not (tags and tags[-1].endswith(f"-{kind}")):
            begin = "I"
        single = begin if letters == "BIII" else single
        marks = [single] if length == 1 else [begin, *[inside] * (length - 2), end]
        tags += [f"{mark}-{kind}" for mark in marks]
    return tags, spans


PARTS = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "X", "Y"])), min_size=1)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=40, deadline=None)
@given(sentences=st.lists(PARTS, min_size=1, max_size=4))
def test_whatever_spans_are_written_in_a_scheme_are_read_back(
    scheme: str, sentences: list[list[tuple[int, str]]]
) -> None:
    written = [tagged(parts, scheme) for parts in sentences]
    text = "\n\n".join("\n".join(f"w {tag}" for tag in tags) for tags, _ in written)
    with tempfile.TemporaryDirectory() as folder:
        rows = conll(Path(folder), text)
    found = [json.loads(row.fields["label"]) for row in rows if isinstance(row, Row)]
    assert found == [spans for _, spans in written]


def test_a_line_with_another_number_of_columns_is_named(tmp_path: Path) -> None:
    rows = conll(tmp_path, "a X O\nb O\n\nc X O\nd X B-P\n\ne X O Z\n\nf X")
    assert good(rows) == [("c d", '[[2, 3, "P"]]')]
    assert bad(rows) == [
        (2, "has 2 columns where the file has 3"),
        (7, "has 4 columns where the file has 3"),
        (9, "has 2 columns where the file has 3"),
    ]


def test_tabs_part_columns_where_there_are_any(tmp_path: Path) -> None:
    """A line of tabs alone separates sentences; a token may hold spaces or be a wide space."""
    rows = conll(tmp_path, "a b\tB-x\n\u3000\tO\n\t\n\tB-x\n\nc\tO\n")
    assert good(rows) == [("a b \u3000", '[[0, 3, "x"]]'), ("c", "[]")]
    assert bad(rows) == [(4, "its token is empty")]


def test_types_may_hold_hyphens(tmp_path: Path) -> None:
    assert named(conll(tmp_path, "Rio\tB-geo-loc\n")) == [[("Rio", "geo-loc")]]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("John lives in 北京 .", "John lives in 北京 ."),
        ("他 说 “ 你好 ” 。", "他说“你好”。"),
        ("He said “ hi ” .", "He said “ hi ” ."),
        ("在 IBM 公司 工作", "在 IBM 公司工作"),
        ("I B M 公 司 在 北 京 设 立 1 9 9 8 年", "IBM公司在北京设立1998年"),
        ("나는 학교에 간다", "나는 학교에 간다"),
        ("東京 タワー へ", "東京タワーへ"),
        ("a b c", "a b c"),
    ],
)
def test_tokens_are_joined_as_their_script_is_written(
    tmp_path: Path, tokens: str, text: str
) -> None:
    listed = tokens.split()
    tags = " ".join(["O"] * (len(listed) - 1) + ["B-X"])
    rows = conll(tmp_path, column(tokens, tags))
    assert [row.fields["text"] for row in rows if isinstance(row, Row)] == [text]
    assert named(rows) == [[(listed[-1], "X")]]


def test_bad_bytes_nul_and_line_ends_of_windows(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfa O\r\nb B-P\r\n\r\nc\xff O\r\nd O\r\n\r\ne\x00 O\r\n"
    rows = read(write(tmp_path, "a.bio", content))
    assert good(rows) == [("a b", '[[2, 3, "P"]]'), ("e\x00", "[]")]
    assert bad(rows) == [(4, "is not UTF-8 (byte 0xff at offset 1)")]


def test_a_sentence_without_an_end_is_one_bad_row(tmp_path: Path) -> None:
    endless = b"z" * 99 + b" O\n"
    rows = read(write(tmp_path, "a.bio", endless * 100_000 + b"\na O\n"))
    assert good(rows) == [("a", "[]")]
    assert [reason for _, reason in bad(rows)] == [
        "its sentence is longer than 10,000,000 characters"
    ]


def test_a_file_of_one_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.txt, line 2: has 1 column: a token and its tag"):
        conll(tmp_path, "\nalone\nhere\n", "a.txt")


def test_prose_is_refused_row_by_row(tmp_path: Path) -> None:
    rows = conll(tmp_path, "Some words of prose.\n\nAnd more of it.\n", "a.txt")
    assert good(rows) == []
    assert bad(rows)[0] == (1, "its tag 'prose.' is not IOB2 (O, B-TYPE, I-TYPE)")


def test_a_column_that_tags_do_not_give_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.bio", b"a O\n")
    with pytest.raises(UserError, match="row 1: no column 'body': tokens with tags give text"):
        read(path, ("body",))


def test_words_with_tags_give_names(tmp_path: Path) -> None:
    text = (
        "\ufeff国家/n  主席/n  江/nr  泽民/nr  在/p  北京/ns\r\n\n"
        "欧阳/nr 修/nr 、/w 马克思/nr 恩格斯/nr 和/c 新华社/nt\n"
        "李/nr 鹏/nr 乔/nr 石/nr １/２/m\n"
    )
    rows = read(write(tmp_path, "a.txt", text.encode()), layout=WORD_TAGS)
    assert [row.number for row in rows] == [1, 3, 4]
    assert named(rows) == [
        [("江泽民", "PER"), ("北京", "LOC")],
        [("欧阳修", "PER"), ("马克思", "PER"), ("恩格斯", "PER"), ("新华社", "ORG")],
        [("李鹏", "PER"), ("乔石", "PER")],
    ]
    assert good(rows)[2][0] == "李鹏乔石１/２"


@pytest.mark.parametrize("word", ["词", "/n", "词/", "[词/n", "词/n]nt", "词/1"])
def test_a_word_without_a_tag_is_named(tmp_path: Path, word: str) -> None:
    text = f"新/a\n好/a {word} 好/a\n"
    rows = read(write(tmp_path, "a.txt", text.encode()), layout=WORD_TAGS)
    if word == "[词/n":  # a bracket with a valid tag is an ordinary character
        assert good(rows)[1][0] == "好[词好"
    else:
        assert good(rows) == [("新", "[]")]
        assert bad(rows) == [(2, f"{word!r} is not word/tag")]


def numbered(columns: str, lines: list[str], comments: bool, first: int = 1) -> bytes:
    head = "# text = x\n# sent_id = 1\n" if comments else ""
    body = "".join(columns.format(n=n, pair=line) for n, line in enumerate(lines, first))
    return f"{head}{body}\n".encode() * 3


@pytest.mark.parametrize("comments", [True, False])
@pytest.mark.parametrize(
    "columns",
    ["{n}\t{pair}\n", "{n}\t{pair}\tO\n", "{n}\t{pair}\tB-DEEP\n"],
)
def test_a_column_of_numbers_is_no_token(tmp_path: Path, columns: str, comments: bool) -> None:
    """CoNLL with numbers, and GermEval with the tags of nested entities behind the others."""
    lines = ["Ann\tB-PER", "sings\tO", "#\tO"]
    content = numbered(columns, lines, comments)
    if columns.endswith("DEEP\n"):
        content = content.replace(b"sings\tO\tB-DEEP", b"sings\tO\tO")
    rows = read(write(tmp_path, "a.conll", content))
    assert good(rows) == [("Ann sings #", '[[0, 3, "PER"]]')] * 3


def test_numbers_of_tokens_may_begin_at_0(tmp_path: Path) -> None:
    content = numbered("{n}\t{pair}\n", ["Ann\tB-PER", "sings\tO"], comments=False, first=0)
    rows = read(write(tmp_path, "a.conll", content))
    assert good(rows) == [("Ann sings", '[[0, 3, "PER"]]')] * 3


def test_comments_before_a_sentence_are_no_tokens(tmp_path: Path) -> None:
    """A number sign before a tag is a token, also as the first one."""
    content = b"# id 7f-3\tdomain=en\nAnn _ B-PER\nsings _ O\n\n# id = 8\n# _ O\n# _ O\n\n"
    rows = read(write(tmp_path, "a.conll", content))
    assert good(rows) == [("Ann sings", '[[0, 3, "PER"]]'), ("# #", "[]")]
    assert [row.number for row in rows] == [2, 6]


def test_conllu_has_its_tag_in_the_last_column(tmp_path: Path) -> None:
    """Lines of several tokens and of none are passed over."""
    lines = ["1-2\tAnns\t_\t_", "1\tAnn\tNOUN\tB-PER", "2\tsings\tVERB\tO", "2.1\t_\t_\t_"]
    content = "# text = Ann sings\n" + "\n".join(lines) + "\n\n"
    rows = read(write(tmp_path, "a.conll", content.encode() * 2))
    assert good(rows) == [("Ann sings", '[[0, 3, "PER"]]')] * 2


def test_types_alone_are_tags(tmp_path: Path) -> None:
    content = b"Ann PER\nMiller PER\nsings O\nin O\nOslo LOC\n\n"
    rows = read(write(tmp_path, "a.conll", content))
    assert good(rows) == [("Ann Miller sings in Oslo", '[[0, 10, "PER"], [20, 24, "LOC"]]')]


def test_types_alone_may_be_small_and_hold_hyphens(tmp_path: Path) -> None:
    content = b"Ann person\nsings O\nin O\nNo art-film\nOslo loc/city\n\n"
    rows = read(write(tmp_path, "a.conll", content))
    types = [kind for _, _, kind in json.loads(good(rows)[0][1])]
    assert types == ["person", "art-film", "loc/city"]


@pytest.mark.parametrize("tags", [("B_PER", "I_PER"), ("PER-B", "PER-I"), ("PER_B", "PER_I")])
def test_letters_that_are_written_otherwise_are_no_part_of_a_type(
    tmp_path: Path, tags: tuple[str, str]
) -> None:
    content = f"Ann {tags[0]}\nMiller {tags[1]}\nsings O\nin O\n\n"
    rows = read(write(tmp_path, "a.conll", content.encode()))
    assert bad(rows) == [(1, f"its tag '{tags[0]}' is not IOB2 (O, B-TYPE, I-TYPE)")]


def test_a_small_o_is_outside(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.conll", b"Ann B-PER\nsings o\n\nin o\n"))
    assert good(rows) == [("Ann sings", '[[0, 3, "PER"]]'), ("in", "[]")]


def test_a_line_has_its_tags_behind_a_tab(tmp_path: Path) -> None:
    content = b"Ann sings\tB-PER O\n\nin Oslo\tO B-LOC\nno tags\nAnn x\tI-PER\nx\tI-PER\n"
    rows = read(write(tmp_path, "a.txt", content), layout=Layout("tagged_lines"))
    assert good(rows) == [("Ann sings", '[[0, 3, "PER"]]'), ("in Oslo", '[[3, 7, "LOC"]]')]
    assert bad(rows) == [
        (4, "is not tokens, a tab, and as many tags"),
        (5, "is not tokens, a tab, and as many tags"),
        (6, "its tag 'I-PER' begins a sentence, against IOB2"),
    ]
