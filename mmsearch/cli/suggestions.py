"""What was probably meant: the nearest of several choices, in a message about a wrong one."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

_CHOICES = re.compile(r"'(?P<given>[^']*)' is not one of (?P<choices>'[^']*'(?:, '[^']*')*)")
_OPTIONS = re.compile(r"No such option: (?P<given>\S+) \(Possible options: (?P<options>[^)]*)\)")


def nearest(given: str, choices: Collection[str]) -> str:
    """Return the choice that is spelt most like what was given, "" where none is alike."""
    by_letters = {choice.lower(): choice for choice in choices}
    return next((by_letters[near] for near in get_close_matches(given.lower(), by_letters, n=1)), "")


def with_suggestion(message: str) -> str:
    """Return a usage error of the command line's parser with its nearest choice as a question."""
    message = message.replace(". Did you mean ", "; did you mean ")
    if found := _CHOICES.search(message):
        near = nearest(found["given"], re.findall(r"'([^']*)'", found["choices"]))
        return f"{message}; did you mean {near!r}?" if near else message
    if found := _OPTIONS.search(message):
        near = nearest(found["given"], found["options"].split(", "))
        return _OPTIONS.sub(rf"No such option: {found['given']}; did you mean {near}?", message) if near else message
    return message
