"""Templates: values are escaped, unfit characters are shown as such, typos are told."""

from pathlib import Path

import pytest

from pipeline.report.html import render


def rendered(folder: Path, template: str, **values: object) -> str:
    path = folder / "page.j2"
    path.write_text(template)
    return render(path, values, {"loud": lambda text: text.upper()})


def test_values_are_escaped_in_text_and_attributes(tmp_path: Path) -> None:
    text = rendered(tmp_path, '<p title="{{ a }}">{{ a | loud }}</p>', a="\"'<&>")
    assert text == '<p title="&#34;&#39;&lt;&amp;&gt;">&#34;&#39;&lt;&amp;&gt;</p>'


def test_what_no_page_may_hold_is_replaced(tmp_path: Path) -> None:
    text = rendered(tmp_path, "{{ a }}", a="a\x00b\ud83dc\u202ed\te\nf 😀 שלום")
    assert text == "a�b�c�d\te\nf 😀 שלום"
    text.encode()


def test_only_the_template_lets_markup_in(tmp_path: Path) -> None:
    assert rendered(tmp_path, "{{ a | safe }}{{ a }}", a="<b>") == "<b>&lt;b&gt;"


def test_a_name_that_is_not_given_is_told(tmp_path: Path) -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="'b' is undefined"):
        rendered(tmp_path, "{{ b }}", a=1)
