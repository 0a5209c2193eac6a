"""Jinja2: a page from a template and values that nobody vouches for.

Every value is escaped, and what no page may hold (half characters, control characters, marks that
turn the direction of what follows) is shown as �. Only a template's own `| safe` lets markup in.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff"
HALF, TURNING = "\ud800-\udfff", "\u202a-\u202e\u2066-\u2069"
UNFIT = re.compile(f"[{CONTROL}{HALF}{TURNING}]")


def render(
    template: Path, values: Mapping[str, object], filters: Mapping[str, Callable[..., str]]
) -> str:
    """The template's text with its values, as UTF-8 can hold it.

    Raises jinja2.UndefinedError where the template names a value that is not given.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_fit,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(template.name).render(values)


def _fit(value: object) -> object:
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return UNFIT.sub("\N{REPLACEMENT CHARACTER}", value)
    return value
