"""Errors that the user can fix: printed as one line, never as a stack trace."""

import re

HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029"  # controls, and separators that break a line
    "\u202a-\u202e\u2066-\u2069"  # bidirectional overrides reorder the line around them
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"  # no text: UTF-8 or XML cannot hold them
)
"""Characters that harm a terminal or a file. Joiners, marks and spaces of a script are no harm."""


class UserError(Exception):
    """Error that names what is wrong, where (file, row or key), and what to do about it.

    The message is always one printable line, whatever characters the quoted values hold.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Unavailable(UserError):  # noqa: N818 - it is a state of the world
    """Error of a service that did not answer; the same call may succeed later."""


def one_line(text: str) -> str:
    """Return a text as one line, with replacement characters for the harmful ones."""
    return HARMFUL.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
