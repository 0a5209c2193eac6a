"""Errors that the user can fix: printed as one line, never as a stack trace."""


class UserError(Exception):
    """Error that names what is wrong, where (file, row or key), and what to do about it.

    The message is always one printable line, whatever characters the quoted values hold.
    """

    def __init__(self, message: str) -> None:
        plain = (
            c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in message
        )
        super().__init__(" ".join("".join(plain).split()))


class Unavailable(UserError):  # noqa: N818 - it is a state of the world
    """Error of a service that did not answer; the same call may succeed later."""
