"""Errors that the host swallows; `reported` keeps them for tests."""
import sys

reported: list[tuple[str, BaseException | None]] = []


def report(message, *, exc_info=False):
    error = sys.exc_info()[1] if exc_info else None
    reported.append((message, error))
    print(f"*** {message} {error!r}" if error else f"*** {message}", file=sys.stderr)


def display(error, task, *, full_traceback=False):
    reported.append((task, error))
