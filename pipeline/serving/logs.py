"""One JSON line a request on standard error: how it went, and never what was said."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO


class Log:
    """Writes lines of JSON to a stream; None stands for standard error as it is at the time."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream

    def __call__(self, **fields: Any) -> None:
        stream = self.stream or sys.stderr
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            stream.write(json.dumps({"time": when} | fields) + "\n")
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more: answering goes on
            pass


class Lines(logging.Formatter):
    """What libraries log, as a line of the same kind."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": when,
            "level": record.levelname.lower(),
            "message": " ".join(record.getMessage().split()),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = broken(record.exc_info[1])
        return json.dumps(line)


def broken(error: BaseException) -> str:
    """The kind of an error and where it arose. Its message is left out: it may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return " < ".join([type(error).__name__, *reversed(places)])


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": Lines}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "uvicorn.error": {"level": "WARNING"},
        "bertline": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "asyncio": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}
"""What uvicorn is told of logging: it says nothing of each request, for the application does."""
