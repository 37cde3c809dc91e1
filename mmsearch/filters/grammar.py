"""One grammar for the command line, Python, the page and agents: words to look for, with filters among them.

    red car under:Holidays after:2019-06 (camera:pixel or camera:canon) -kind:video "no parking"

`word:value` is a filter; with quotes, its value may have spaces: `date:"last summer"`. What stands in quotes by itself
is a filter, too: these very words belong to the item; they are looked for as well. A minus or `not` excludes, `or`
joins two filters and binds closer than their standing side by side, which means that both hold. Brackets, `or`, `and`
and `not` mean this only where filters follow; anywhere else they are words like all others. All else is text, as it
stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from mmsearch.errors import FilterError
from mmsearch.filters.conditions import Expression, Near, Says, conjunction, disjunction, negation
from mmsearch.filters.places import near
from mmsearch.filters.vocabulary import WORDS, Within

_WORD = re.compile(rf"(-?)({'|'.join(WORDS)}):(?=\S)", re.IGNORECASE)
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_SPACE = re.compile(r"\s*")
_BARE = re.compile(r"\S+")
_DEEPEST = 50
"""How many brackets stand in each other at most."""


class _Kind(Enum):
    FILTER = auto()
    PHRASE = auto()
    OPEN = auto()
    CLOSE = auto()
    TEXT = auto()


@dataclass(frozen=True, slots=True)
class _Token:
    """A part of a `source`, from `start` to `end`. The `value` of a filter `word:value` begins at `value_start`."""

    kind: _Kind
    source: str
    start: int
    end: int
    excluded: bool = False
    word: str = ""
    value: str = ""
    value_start: int = 0

    def is_word(self, word: str) -> bool:
        return self.kind is _Kind.TEXT and self.source[self.start : self.end].lower() == word

    def error(self, reason: str) -> FilterError:
        return FilterError(reason, self.source, self.start)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was written: the texts to look for as they stand, and the filter.

    `phrases` are the words in quotes that have to stand in an item, without their quotes; the filter has them too.
    """

    texts: tuple[str, ...]
    phrases: tuple[str, ...]
    expression: Expression


def parse(text: str, now: datetime | None = None) -> Parsed:
    """Read one line of text and filters, in which words side by side are one text. Raises `FilterError`."""
    return _Parser(_tokens(text), now or datetime.now()).parse()


def parse_terms(terms: Iterable[str], now: datetime | None = None) -> Parsed:
    """Read the terms of a command line, which its shell has told apart. Raises `FilterError`.

    A term that begins as a filter is one to its end, with its spaces: `under:My Holidays`. One in which none is found
    is a text as it stands, whatever else is in it.
    """
    tokens: list[_Token] = []
    for term in terms:
        tokens += _tokens_of_term(term)
    return _Parser(tokens, now or datetime.now()).parse()


def parse_filter(text: str, now: datetime | None = None) -> Expression:
    """Read a line of filters alone. Raises `FilterError` at the first character of anything else."""
    parser = _Parser(_tokens(text), now or datetime.now())
    parsed = parser.parse()
    if parser.texts:
        raise parser.texts[0].error(
            f"this is no filter; filters are {', '.join(f'{word}:' for word in WORDS)} and so on"
        )
    return parsed.expression


def _tokens_of_term(term: str) -> list[_Token]:
    filters = [found for found in _WORD.finditer(term) if not found.start() or term[found.start() - 1] in " \t\n("]
    if len(filters) == 1 and filters[0].start() == 0 and term[filters[0].end()] != '"':
        return [_filter(term, filters[0], len(term))]
    if filters or any(token.kind is _Kind.PHRASE for token in _tokens(term)):
        return _tokens(term)
    kind = {"(": _Kind.OPEN, "-(": _Kind.OPEN, ")": _Kind.CLOSE}.get(term, _Kind.TEXT)
    return [_Token(kind, term, 0, len(term), excluded=term == "-(")]


def _tokens(source: str) -> list[_Token]:
    """Cut a line into filters, brackets, phrases, and the words between."""
    tokens: list[_Token] = []
    at = _end(_SPACE, source, 0)
    while at < len(source):
        tokens.append(_token(source, at))
        at = _end(_SPACE, source, tokens[-1].end)
    return tokens


def _token(source: str, at: int) -> _Token:
    if found := _WORD.match(source, at):
        return _filter(source, found, None)
    excluded = source[at] == "-"
    quoted = _QUOTED.match(source, at + excluded)
    if quoted and quoted[1].strip():
        return _Token(_Kind.PHRASE, source, at, quoted.end(), excluded, value=quoted[1].replace('""', '"').strip())
    if source.startswith("(", at + excluded):
        return _Token(_Kind.OPEN, source, at, at + excluded + 1, excluded)
    if source[at] == ")":
        return _Token(_Kind.CLOSE, source, at, at + 1)
    return _Token(_Kind.TEXT, source, at, _end(_BARE, source, at))


def _filter(source: str, found: re.Match[str], end: int | None) -> _Token:
    """Return the filter that begins with a word; None lets its value end with its quotes, or before a space."""
    start, value = found.end(), ""
    if end is None and source[start] == '"':
        quoted = _QUOTED.match(source, start)
        if not quoted:
            raise FilterError("this quote isn't closed", source, start)
        start, end, value = start + 1, quoted.end(), quoted[1].replace('""', '"')
    elif end is None:
        end = _end(_BARE, source, start)
        while source[end - 1] == ")" and source.count(")", start, end) > source.count("(", start, end):
            end -= 1  # it closes a bracket that was opened before the filter
    word = found[2].lower()
    return _Token(_Kind.FILTER, source, found.start(), end, bool(found[1]), word, value or source[start:end], start)


def _end(pattern: re.Pattern[str], source: str, at: int) -> int:
    found = pattern.match(source, at)
    return found.end() if found else at


@dataclass(slots=True)
class _Parser:
    """Reads tokens from left to right."""

    tokens: Sequence[_Token]
    now: datetime
    at: int = 0
    depth: int = 0
    texts: list[_Token] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)

    def parse(self) -> Parsed:
        expression = self._sequence(None)
        texts = tuple(token.source[token.start : token.end] for token in self.texts)
        return Parsed(texts, tuple(self.phrases), expression)

    def _sequence(self, opened: _Token | None) -> Expression:
        """Read filters that all have to hold, up to the bracket that closes them; outside of brackets, texts too."""
        parts: list[Expression] = []
        before: _Token | None = None
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if self._begins_filter(self.at):
                self._alternatives(parts, is_outside=opened is None)
                before = None
                continue
            self.at += 1
            if token.kind is _Kind.CLOSE and opened is not None:
                return conjunction(*parts)
            joins = any(token.is_word(word) for word in ("and", "or")) and self._begins_filter(self.at)
            if joins and token.is_word("and"):
                continue
            if joins or opened is not None:
                raise token.error('only filters can be joined by "or" and stand in brackets')
            if token.kind is _Kind.CLOSE and before is None and self.at > 1:
                raise token.error("no bracket is open here")
            self._add_text(token, before)
            before = token
        if opened is not None:
            raise opened.error("this bracket isn't closed")
        return conjunction(*parts)

    def _add_text(self, token: _Token, before: _Token | None) -> None:
        """Add words to the text that they go on with, or as a text of their own."""
        if before is not None and before.source is token.source and before.end <= token.start:
            first = self.texts.pop()
            self.texts.append(_Token(_Kind.TEXT, token.source, first.start, token.end))
        else:
            self.texts.append(_Token(_Kind.TEXT, token.source, token.start, token.end))

    def _begins_filter(self, at: int) -> bool:
        """Return whether a filter begins at a token, with the brackets and `not` in front of it."""
        while at < len(self.tokens):
            token = self.tokens[at]
            if token.kind in (_Kind.FILTER, _Kind.PHRASE):
                return True
            if token.kind is not _Kind.OPEN and not token.is_word("not"):
                return False
            at += 1
        return False

    def _alternatives(self, parts: list[Expression], *, is_outside: bool) -> None:
        """Read filters that are joined by `or`, and add them to what has to hold besides."""
        first = self.tokens[self.at]
        part = self._part()
        if isinstance(part, Within):
            parts[:] = _reaching(parts, part, first)
            return
        several = [part]
        while self.at < len(self.tokens) and self.tokens[self.at].is_word("or"):
            joint = self.tokens[self.at]
            if not self._begins_filter(self.at + 1):
                raise joint.error('only filters can be joined by "or" and stand in brackets')
            self.at += 1
            token = self.tokens[self.at]
            part = self._part()
            if isinstance(part, Within):
                raise token.error("this belongs behind a place: near:Prague within:5")
            several.append(part)
        if len(several) == 1 and is_outside and first.kind is _Kind.PHRASE and not first.excluded:
            self.phrases.append(first.value)
        parts.append(disjunction(*several))

    def _part(self) -> Expression | Within:
        """Read one filter, or several in brackets, with what excludes it."""
        token = self.tokens[self.at]
        self.at += 1
        if token.is_word("not"):
            return self._excluded(token)
        if token.kind is _Kind.OPEN:
            self.depth += 1
            if self.depth > _DEEPEST:
                raise token.error(f"more than {_DEEPEST} brackets stand in each other")
            inner = self._sequence(token)
            self.depth -= 1
        elif token.kind is _Kind.PHRASE:
            inner = Says(token.value)
        else:
            made = _condition(token, self.now)
            if isinstance(made, Within):
                if token.excluded:
                    raise token.error("a distance can't be excluded")
                return made
            inner = made
        return negation(inner) if token.excluded else inner

    def _excluded(self, token: _Token) -> Expression:
        """Read what stands behind `not`."""
        excluded = False
        while self.tokens[self.at].is_word("not"):
            excluded = not excluded
            self.at += 1
        part = self._part()
        if isinstance(part, Within):
            raise token.error("a distance can't be excluded")
        return part if excluded else negation(part)


def _condition(token: _Token, now: datetime) -> Expression | Within:
    try:
        return WORDS[token.word](token.value, now)
    except FilterError as error:
        raise error.within(token.source, token.value_start) from None


def _reaching(parts: Sequence[Expression], within: Within, token: _Token) -> list[Expression]:
    """Return the parts with the last place among them reaching as far as `within` says."""
    for n in range(len(parts) - 1, -1, -1):
        part = parts[n]
        if isinstance(part, Near):
            return [*parts[:n], near(part.latitude, part.longitude, within.km), *parts[n + 1 :]]
    raise token.error("this belongs behind a place: near:Prague within:5")
