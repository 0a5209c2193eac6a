"""The one kind of error that a person can mend: it is told in one line, never as a stack trace."""


class UserError(Exception):
    """What is wrong, where (file, row or key), and what to do about it, in one line."""


class Unavailable(UserError):  # noqa: N818 - it is a state of the world
    """A service that the work needs did not answer; the same call may succeed later."""
