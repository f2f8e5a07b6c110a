"""How large a job's spec may be: what is asked of a request, before it is read and behind that.

Not of what is stored: a job that was accepted before there were bounds is still read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from modelpress.spec.architecture import ArchitectureRef, check_arguments
from modelpress.spec.characters import check_characters
from modelpress.spec.job import JobSpec
from modelpress.spec.name_pattern import REGULAR, is_wild
from modelpress.spec.resources import FieldError
from modelpress.spec.steps import Distill, name_patterns

MOST_SPEC_BYTES = 128 << 10
"""Of a spec as compact JSON, every default filled in. A page of a list has up to 200 of them. The defaults of 32 steps
that train are a fifth of it; each of 1,000 layers with a rank of its own is less than half."""

MOST_PATTERNS = 256
"""Patterns of layers' names in all steps; names themselves and `*` alone are not counted."""
MOST_PATTERN_CHARACTERS = 16 << 10
"""Characters of these patterns together. Regular expressions are read before it is known which fields they are in, in
the one thread that answers all requests, some microseconds a character."""

# In JSON, where a `\\` stands for one.
_EXPRESSION = re.compile(rf'(?<="){REGULAR}(?:[^"\\]|\\.)*')
_LONGEST_PLACE = 200


def check_document(document: object) -> object:
    """The body of a request for a job, as it is. Raises ValueError where it is too large to be read as a `JobSpec`."""
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("its lists and objects are too deep within one another; nest less") from None
    # What is left out has its default, so that the spec is no smaller.
    _require_bytes(len(text))
    try:
        check_characters(text)
    except ValueError:
        _name_half_characters(document)
    # Wherever they are: texts that begin so and are no patterns are few, and short.
    expressions = sum(len(found.replace("\\\\", "\\")) for found in _EXPRESSION.findall(text))
    if expressions > MOST_PATTERN_CHARACTERS:
        raise ValueError(_too_long(expressions))
    return document


def spec_errors(spec: JobSpec) -> list[FieldError]:
    """What keeps a spec that was read from being accepted, whatever it is for: it is too large."""
    errors = []
    for index, step in enumerate(spec.steps):
        if isinstance(step, Distill) and isinstance(step.student, ArchitectureRef):
            try:
                check_arguments(step.student.arguments)
            except ValueError as error:
                errors.append(FieldError(where=f"steps.{index}.student.arguments", message=str(error)))
    if errors:
        return errors  # which may be why it cannot be written, or is too large
    try:
        _require_bytes(len(spec.model_dump_json().encode()))
    except ValueError as error:
        errors.append(FieldError(where="body", message=str(error)))
    patterns = [pattern for step in spec.steps for pattern in name_patterns(step) if is_wild(pattern)]
    if len(patterns) > MOST_PATTERNS:
        message = f"they have {len(patterns):,} patterns of layers' names, and may have {MOST_PATTERNS}; {_FEWER}"
        errors.append(FieldError(where="steps", message=message))
    elif (characters := sum(map(len, patterns))) > MOST_PATTERN_CHARACTERS:
        errors.append(FieldError(where="steps", message=_too_long(characters)))
    return errors


_FEWER = "let one stand for more layers, or give the layers' names, which are not counted"


def _require_bytes(given: int) -> None:
    if given > MOST_SPEC_BYTES:
        raise ValueError(
            f"a job's spec may take {MOST_SPEC_BYTES:,} bytes as JSON with every default filled in, and this one takes "
            f"{given:,} or more; give several layers one value by a pattern, or ask for fewer steps"
        )


def _too_long(characters: int) -> str:
    return (
        f"the patterns of layers' names have {characters:,} characters, and may have {MOST_PATTERN_CHARACTERS:,} in "
        f"all steps together; {_FEWER}"
    )


def _name_half_characters(document: object) -> None:
    """Raises ValueError with the first place where half of a character is."""
    for place, text in _texts(document):
        try:
            check_characters(text)
        except ValueError as error:
            raise ValueError(f"`{place[:_LONGEST_PLACE]}`: {error}" if place else str(error)) from None


def _texts(document: object) -> Iterator[tuple[str, str]]:
    """The texts in a document and the names of its fields, each with its place: of a name, where its object is."""
    holders: list[tuple[str, object]] = [("", document)]
    while holders:
        place, value = holders.pop()
        if isinstance(value, str):
            yield place, value
            continue
        before = f"{place}." if place else ""
        if isinstance(value, dict):
            for name, part in value.items():
                yield place, name
                holders.append((f"{before}{name}", part))
        elif isinstance(value, list):
            holders.extend((f"{before}{index}", part) for index, part in enumerate(value))
