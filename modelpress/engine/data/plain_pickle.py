"""Pickles read as data: numbers, text, lists, dictionaries and numpy arrays of bytes, and nothing else.

A pickle is a program for a small stack machine, and Python's own machine will call whatever a program names. This is
another machine. It knows the instructions that Python 2 and 3 write for such values and refuses every other one. Three
names it knows - the two functions and the class that numpy's arrays are written with - and it calls none of them: it
notes what they would have been called with, and makes the array itself, after its shape was held against its bytes.
Nothing is imported, nothing is called, and nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelpress.engine.data.damage import DAMAGED
from modelpress.spec.failure import InvalidDataset

_MAKE_ARRAY, _ARRAY, _DTYPE = "make an array", "the class of arrays", "make a type"
_NAMES = {
    "numpy.core.multiarray _reconstruct": _MAKE_ARRAY,
    "numpy._core.multiarray _reconstruct": _MAKE_ARRAY,
    "numpy ndarray": _ARRAY,
    "numpy dtype": _DTYPE,
}
_BYTES_DTYPES = ("u1", "|u1")
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """One of the names above: what a program says it wants called."""

    meaning: str


@dataclass
class _Dtype:
    """A numpy type, by the text that it is made from."""

    code: object


@dataclass
class _Array:
    """An array that is being made: empty until its state is known."""

    pixels: np.ndarray | None = None


def load_plain(content: bytes, name: str) -> Any:
    """The value that a pickle holds: of bytes, str, int, bool, None, list, tuple, dict and uint8 arrays.

    Text of Python 2, which may be either, is given as str, one character per byte. Raises InvalidDataset, naming the
    file `name`, for any pickle that holds or does anything else.
    """
    try:
        return _Machine(name).run(content)
    except DAMAGED as error:
        raise InvalidDataset(f"{name} is damaged ({error}); download it again, and upload it unchanged") from error


class _Machine:
    """The stack machine, for one file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._has_array = False

    def run(self, content: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                break
            if opcode.name in _VALUES:
                self._push(argument)
            elif opcode.name in _INSTRUCTIONS:
                _INSTRUCTIONS[opcode.name](self, argument)
            else:
                raise self._refusal(f"the instruction {opcode.name}")
        (value,) = self._stack
        return self._finished(value)

    def _refusal(self, what: str) -> InvalidDataset:
        return InvalidDataset(
            f"{self._name} is a pickle with {what}, which an image data set has no use for, and which is not carried "
            "out; upload the archive as it was published, or images in class folders"
        )

    def _finished(self, value: Any) -> Any:
        """The value with its arrays in the place of their descriptions, at its top and one level below."""
        if isinstance(value, dict):
            return {key: self._array_of(entry) for key, entry in value.items()}
        return self._array_of(value)

    def _array_of(self, value: Any) -> Any:
        if isinstance(value, _Array):
            if value.pixels is None:
                raise self._refusal("an array without content")
            return value.pixels
        return value

    def _pop_marked(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("a mark is missing")
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def _ignore(self, _: object) -> None:
        """Of a protocol's number and the length of a frame nothing depends."""

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _mark(self, _: object) -> None:
        self._stack.append(_MARK)

    def _empty_list(self, _: object) -> None:
        self._stack.append([])

    def _empty_dict(self, _: object) -> None:
        self._stack.append({})

    def _list(self, _: object) -> None:
        self._stack.append(self._pop_marked())

    def _dict(self, _: object) -> None:
        items = self._pop_marked()
        self._stack.append({})
        self._put_all(items)

    def _tuple(self, _: object) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def _tuple_of(self, count: int) -> None:
        items = tuple(self._stack[len(self._stack) - count :])
        if len(items) != count:
            raise ValueError("a tuple is missing its parts")
        del self._stack[len(self._stack) - count :]
        self._stack.append(items)

    def _append(self, _: object) -> None:
        item = self._stack.pop()
        self._list_on_top().append(item)

    def _appends(self, _: object) -> None:
        items = self._pop_marked()
        self._list_on_top().extend(items)

    def _list_on_top(self) -> list[Any]:
        top = self._stack[-1]
        if not isinstance(top, list):
            raise self._refusal(f"items appended to a {type(top).__name__}")
        return top

    def _set_item(self, _: object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._put_all([key, value])

    def _set_items(self, _: object) -> None:
        self._put_all(self._pop_marked())

    def _put_all(self, items: list[Any]) -> None:
        top = self._stack[-1]
        if not isinstance(top, dict):
            raise self._refusal(f"entries of a {type(top).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | int):
                raise self._refusal(f"a {type(key).__name__} as the key of a dictionary")
            top[key] = value

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def _global(self, name: str) -> None:
        if name not in _NAMES:
            raise self._refusal(f"the name {name[:100].replace(' ', '.', 1)}")
        self._stack.append(_Name(_NAMES[name]))

    def _stack_global(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._global(f"{module} {name}")

    def _reduce(self, _: object) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        match called, arguments:
            case _Name(meaning="make an array"), (_Name(meaning="the class of arrays"), (0,), "b" | b"b"):
                if self._has_array:  # one text could be made a thousand arrays
                    raise self._refusal("more than one array")
                self._has_array = True
                self._stack.append(_Array())
            case _Name(meaning="make a type"), (code, *_):
                self._stack.append(_Dtype(code))
            case _:
                raise self._refusal("a call")

    def _build(self, _: object) -> None:
        state, built = self._stack.pop(), self._stack[-1]
        match built, state:
            case _Dtype(), tuple():
                pass  # the byte order and such, which bytes have none of
            case _Array(pixels=None), (_, tuple(shape), _Dtype(code), is_fortran, str() | bytes() as content):
                built.pixels = self._make_array(shape, code, bool(is_fortran), content)
            case _:
                raise self._refusal("an object's state")

    def _make_array(self, shape: tuple[Any, ...], code: object, is_fortran: bool, content: str | bytes) -> np.ndarray:
        if code not in _BYTES_DTYPES:
            raise self._refusal(f"an array of the type {str(code)[:20]!r}, not of bytes")
        data = content.encode("latin-1") if isinstance(content, str) else content
        if not all(isinstance(side, int) and side >= 0 for side in shape) or math.prod(shape) != len(data):
            raise self._refusal(f"an array of the shape {shape} and of {len(data)} bytes")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")


_VALUES = frozenset({
    "INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
})  # fmt: skip

_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._ignore,
    "FRAME": _Machine._ignore,
    "NONE": lambda machine, _: machine._push(None),
    "NEWTRUE": lambda machine, _: machine._push(True),
    "NEWFALSE": lambda machine, _: machine._push(False),
    "MARK": _Machine._mark,
    "EMPTY_LIST": _Machine._empty_list,
    "LIST": _Machine._list,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "EMPTY_DICT": _Machine._empty_dict,
    "DICT": _Machine._dict,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "EMPTY_TUPLE": lambda machine, _: machine._tuple_of(0),
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "TUPLE": _Machine._tuple,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
}
