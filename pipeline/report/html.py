"""Jinja2: render a page from a template and untrusted values.

Every value is escaped, and characters that no page may contain (lone surrogates, control
characters, marks that change the text direction) become �. Only `| safe` in a template inserts
markup.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff"
SURROGATES, DIRECTION = "\ud800-\udfff", "\u202a-\u202e\u2066-\u2069"
FORBIDDEN = re.compile(f"[{CONTROL}{SURROGATES}{DIRECTION}]")


def render(
    template: Path, values: Mapping[str, object], filters: Mapping[str, Callable[..., str]]
) -> str:
    """Render a template as text that UTF-8 can encode.

    Raises jinja2.UndefinedError if the template names a value that is not given.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_replace_forbidden,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(template.name).render(values)


def _replace_forbidden(value: object) -> object:
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)
    return value
