"""Patterns on layers' names: globs (`features.*`), and after `re:` regular expressions (`re:layer[1-3]\\..*conv\\d`).

A pattern comes from a stranger and is tried in the process that answers requests, where `(a+)+` would keep a
backtracking engine busy for years. So expressions are read by Python's parser and matched by following the set of all
places in the name that each part can reach: every part is looked at once, whatever the name is. What would break that
promise (a repeated group, a reference back, a look around) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

REGULAR = "re:"
MOST_CHARACTERS = 256

# Where in a name each of a set of places can lead.
_Walk = Callable[[str, set[int]], set[int]]
_ALLOWED = (
    "letters, `.`, `[...]`, `\\d`, `\\w`, `\\s`, `|`, groups, and `*`, `+`, `?` or `{m,n}` behind a single character "
    "(behind a group only `?`)"
)


def matches(name: str, pattern: str) -> bool:
    """True when the whole of `name` matches. Raises ValueError for a regular expression that is not allowed."""
    if not pattern.startswith(REGULAR):
        return fnmatchcase(name, pattern)
    return len(name) in _compiled(pattern)(name, {0})


def check_pattern(pattern: str) -> str:
    """The pattern itself. Raises ValueError, with what may be written, for an expression that is not allowed."""
    if pattern.startswith(REGULAR):
        _compiled(pattern)
    return pattern


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


def _sequence(parts: list[Any], pattern: str) -> _Walk:
    walks = [_part(code, argument, pattern) for code, argument in parts]

    def walk(name: str, places: set[int]) -> set[int]:
        for step in walks:
            places = step(name, places)
        return places

    return walk


def _part(code: Any, argument: Any, pattern: str) -> _Walk:
    if code is op.SUBPATTERN:
        _, added, removed, inner = argument
        if added or removed:
            raise _refused(pattern, "flags")
        return _sequence(list(inner), pattern)
    if code is op.BRANCH:
        ways = [_sequence(list(way), pattern) for way in argument[1]]
        return lambda name, places: set().union(*(way(name, places) for way in ways))
    if code in (op.MAX_REPEAT, op.MIN_REPEAT):  # greedy or not: the same names match
        least, most, inner = argument
        return _repeat(least, most, inner, pattern)
    single = _single(code, argument)
    if single is None:
        raise _refused(pattern, str(code).lower().replace("_", " "))
    return lambda name, places: {place + 1 for place in places if place < len(name) and single(name[place])}


def _repeat(least: int, most: int, inner: Any, pattern: str) -> _Walk:
    ((code, argument),) = inner if len(inner) == 1 else ((None, None),)
    single = None if code is None else _single(code, argument)
    if single is None:
        if (least, most) != (0, 1):
            raise _refused(pattern, "a repeated group")
        group = _sequence(list(inner), pattern)
        return lambda name, places: places | group(name, places)

    def walk(name: str, places: set[int]) -> set[int]:
        reached: set[int] = set()
        end = covered = -1
        for place in sorted(places):
            if end < place:  # else within the run of characters that an earlier place began
                end = place
                while end < len(name) and single(name[end]):
                    end += 1
            last = min(place + most, end)
            reached.update(range(max(place + least, covered), last + 1))
            covered = max(covered, last + 1)  # each place in the name is reached once, so that time is linear
        return reached

    return walk


def _single(code: Any, argument: Any) -> Callable[[str], bool] | None:
    """Whether a character is one that this part stands for; None when it does not stand for one character."""
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
        members = [_single(*member) for member in argument[negated:]]
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
