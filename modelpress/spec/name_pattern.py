"""Patterns on layers' names: globs (`features.*`), and after `re:` regular expressions (`re:layer[1-3]\\..*conv\\d`).

A pattern comes from a stranger and is tried in the process that answers requests, where `(a+)+` would keep a
backtracking engine busy for years. So expressions are read by Python's parser and matched by following the set of all
places that each part can reach: every part is looked at once, whatever the names are. What would break that promise
(a repeated group, a reference back, a look around) is refused.

All names are followed at once: they stand in one text, and a set of places in it is a whole number whose bits are the
places, so that a part costs a few operations on numbers (Cameron et al. 2014, "Bitwise data parallelism in regular
expression matching").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from itertools import accumulate, count
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

REGULAR = "re:"
EVERY = "*"
MOST_CHARACTERS = 256

_ALLOWED = (
    "letters, `.`, `[...]`, `\\d`, `\\w`, `\\s`, `|`, groups, and `*`, `+`, `?` or `{m,n}` behind a single character "
    "(behind a group only `?`)"
)


def check_pattern(pattern: str) -> str:
    """The pattern itself. Raises ValueError, with what may be written, for an expression that is not allowed."""
    if pattern.startswith(REGULAR):
        _check(pattern)
    return pattern


def is_wild(pattern: str) -> bool:
    """True for a pattern that has to be followed through the names: neither a name itself nor `*` alone."""
    return pattern != EVERY and (pattern.startswith(REGULAR) or any(wild in pattern for wild in "*?["))


class _Single(NamedTuple):
    """A part that stands for one character."""

    key: str  # the same for parts that stand for the same ones
    holds: Callable[[str], bool]


class Names:
    """Names that patterns are tried on, each once and in their order.

    They stand one behind the other in one text, each with an end behind it that is a character of none of them: bit p
    of a set of places is the place before character p, and no part leads over an end.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._known = frozenset(self.names)
        self._masks: dict[str, int] = {}

    def matching(self, pattern: str) -> list[str]:
        """Those that a pattern matches as a whole. Raises ValueError for an expression that is not allowed."""
        if pattern == EVERY:
            return list(self.names)
        if not is_wild(pattern):
            return [pattern] if pattern in self._known else []
        # Globs are not kept: they may be long, and are quickly read.
        walk = _compiled(pattern) if pattern.startswith(REGULAR) else _glob(pattern)
        reached = walk(self, self._starts) & self._ends
        digits = f"{reached:b}"[::-1]
        ends = accumulate((len(name) + 1 for name in self.names), initial=-1)
        next(ends)
        return [name for name, end in zip(self.names, ends, strict=True) if digits[end : end + 1] == "1"]

    def mask(self, single: _Single) -> int:
        """The places before a character that a part stands for."""
        if single.key not in self._masks:
            self._masks[single.key] = self._places({c for c in self._characters if single.holds(c)})
        return self._masks[single.key]

    @cached_property
    def longest(self) -> int:
        """Characters of the longest name."""
        return max(map(len, self.names), default=0)

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset("".join(self.names))

    @cached_property
    def _end(self) -> str:
        return next(character for character in map(chr, count()) if character not in self._characters)

    @cached_property
    def _backwards(self) -> str:
        # The last character is the first digit.
        return "".join(f"{name}{self._end}" for name in self.names)[::-1]

    @cached_property
    def _ends(self) -> int:
        return self._places({self._end})

    @cached_property
    def _starts(self) -> int:
        # Behind each end but the last, and at the beginning.
        return (self._ends << 1 | 1) & ~(1 << len(self._backwards))

    def _places(self, characters: set[str]) -> int:
        digits = {ord(character): "0" for character in (*self._characters, self._end)}
        digits |= {ord(character): "1" for character in characters}
        return int(self._backwards.translate(digits) or "0", 2)


# Where a set of places can lead.
_Walk = Callable[[Names, int], int]


@lru_cache(maxsize=16_384)
def _check(pattern: str) -> None:
    # Remembered apart from what it is compiled to, which is larger: a list of jobs reads the patterns of all of them.
    _compiled(pattern)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> _Walk:
    expression = pattern.removeprefix(REGULAR)
    if len(expression) > MOST_CHARACTERS:
        raise ValueError(f"a regular expression has at most {MOST_CHARACTERS} characters, this one {len(expression)}")
    try:
        tree = _parser.parse(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if tree.state.flags != re.UNICODE:
        raise _refused(pattern, "flags")
    return _sequence(list(tree), pattern)


def _glob(pattern: str) -> _Walk:
    """As `fnmatch.fnmatchcase` reads it."""
    walks: list[_Walk] = []
    begin = 0
    while begin < len(pattern):
        end = begin + 1
        if pattern[begin] == "[":
            # The first character within may be a `]` itself; without one behind it the `[` is a plain character.
            inner = end + pattern.startswith("!", end)
            end = pattern.find("]", inner + 1) + 1 or end
        piece = pattern[begin:end]
        if piece == "*":
            walks.append(lambda names, places: _run(places, names.mask(_ANYTHING)))
        else:
            walks.append(_one(_ANYTHING if piece == "?" else _in_glob(piece)))
        begin = end
    return _row(walks)


def _in_glob(piece: str) -> _Single:
    if len(piece) == 1:
        return _literal(piece)
    return _Single(f"glob {piece}", lambda character: fnmatchcase(character, piece))


def _sequence(parts: list[Any], pattern: str) -> _Walk:
    return _row([_part(code, argument, pattern) for code, argument in parts])


def _row(walks: list[_Walk]) -> _Walk:
    def walk(names: Names, places: int) -> int:
        for step in walks:
            if not places:
                return 0
            places = step(names, places)
        return places

    return walk


def _part(code: Any, argument: Any, pattern: str) -> _Walk:
    if code is op.SUBPATTERN:
        _, added, removed, inner = argument
        if added or removed:
            raise _refused(pattern, "flags")
        return _sequence(list(inner), pattern)
    if code is op.BRANCH:
        return _either([_sequence(list(way), pattern) for way in argument[1]])
    if code in (op.MAX_REPEAT, op.MIN_REPEAT):  # greedy or not: the same names match
        least, most, inner = argument
        return _repeat(least, most, inner, pattern)
    single = _single(code, argument)
    if single is None:
        raise _refused(pattern, str(code).lower().replace("_", " "))
    return _one(single)


def _one(single: _Single) -> _Walk:
    return lambda names, places: (places & names.mask(single)) << 1


def _either(ways: list[_Walk]) -> _Walk:
    def walk(names: Names, places: int) -> int:
        reached = 0
        for way in ways:
            reached |= way(names, places)
        return reached

    return walk


def _repeat(least: int, most: int, inner: Any, pattern: str) -> _Walk:
    ((code, argument),) = inner if len(inner) == 1 else ((None, None),)
    single = None if code is None else _single(code, argument)
    if single is None:
        if (least, most) != (0, 1):
            raise _refused(pattern, "a repeated group")
        group = _sequence(list(inner), pattern)
        return lambda names, places: places | group(names, places)

    def walk(names: Names, places: int) -> int:
        if least > names.longest:
            return 0
        mask = names.mask(single)
        places = _exactly(least, places, mask)
        return _run(places, mask) if most >= names.longest else _at_most(most - least, places, mask)

    return walk


def _run(places: int, mask: int) -> int:
    """Where any number of characters of a mask leads: a carry runs through those that follow each other."""
    return (((places & mask) + mask) ^ mask) | places


def _exactly(times: int, places: int, mask: int) -> int:
    """Where so many characters of a mask lead, by steps of 1, 2, 4..."""
    runs, length = mask, 1  # the places where so many of them begin
    while times and places:
        if times & 1:
            places = (places & runs) << length
        times >>= 1
        runs &= runs >> length
        length *= 2
    return places


def _at_most(times: int, places: int, mask: int) -> int:
    reached, done = places, 0  # what 0 to `done` characters lead to
    while done < times:
        more = min(done + 1, times - done)
        reached |= _exactly(more, reached, mask)
        done += more
    return reached


_ANYTHING = _Single("anything", lambda _: True)


def _single(code: Any, argument: Any) -> _Single | None:
    """The characters that a part stands for; None when it does not stand for one character."""
    if code is op.LITERAL:
        return _literal(chr(argument))
    holds = _holds(code, argument)
    return None if holds is None else _Single(f"{code} {argument}", holds)


@lru_cache(maxsize=256)
def _literal(character: str) -> _Single:
    # Most parts are letters: each is made once.
    return _Single(character, lambda other: other == character)


def _holds(code: Any, argument: Any) -> Callable[[str], bool] | None:
    if code is op.LITERAL:
        return lambda character: ord(character) == argument
    if code is op.NOT_LITERAL:
        return lambda character: ord(character) != argument
    if code is op.ANY:
        return lambda character: character != "\n"
    if code is op.RANGE:
        return lambda character: argument[0] <= ord(character) <= argument[1]
    if code is op.CATEGORY:
        category = re.compile(_CATEGORIES[argument])
        return lambda character: category.fullmatch(character) is not None
    if code is op.IN:
        negated = argument[0][0] is op.NEGATE
        members = [_holds(*member) for member in argument[negated:]]
        return lambda character: negated != any(member is not None and member(character) for member in members)
    return None


_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}


def _refused(pattern: str, what: str) -> ValueError:
    return ValueError(f"{pattern!r} has what a pattern cannot have, {what}; it matches the whole name, from {_ALLOWED}")
