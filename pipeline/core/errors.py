"""The one kind of error that a person can mend: it is told in one line, never as a stack trace."""


class UserError(Exception):
    """What is wrong, where (file, row or key), and what to do about it.

    Always one printable line, whatever the names and values that it quotes hold.
    """

    def __init__(self, message: str) -> None:
        plain = (
            c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in message
        )
        super().__init__(" ".join("".join(plain).split()))


class Unavailable(UserError):  # noqa: N818 - it is a state of the world
    """A service that the work needs did not answer; the same call may succeed later."""
