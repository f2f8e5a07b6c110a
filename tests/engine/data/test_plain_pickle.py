"""What is no plain data is refused by name, and nothing that a pickle asks for is ever done."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpress.engine.data.plain_pickle import load_plain
from modelpress.spec.failure import InvalidDataset
from tests.support.cifar import Python2Pickle

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)


@given(value=plain, protocol=st.integers(0, 5))
def test_plain_values_are_what_python_reads(value: Any, protocol: int):
    content = pickle.dumps(value, protocol)
    assert load_plain(content, "file") == value


@given(value=st.binary(max_size=300))
def test_bytes_of_python_3(value: bytes):
    assert load_plain(pickle.dumps({"a": value}, 4), "file") == {"a": value}


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_python_2(order: Any):
    content = Python2Pickle().dump({"data": np.asarray(PIXELS, order=order)})
    # Python's own machine, told to read old text as bytes, is the other reader.
    np.testing.assert_array_equal(pickle.loads(content, encoding="latin-1")["data"], PIXELS)  # noqa: S301
    np.testing.assert_array_equal(load_plain(content, "file")["data"], PIXELS)


def test_arrays_of_python_3():
    np.testing.assert_array_equal(load_plain(pickle.dumps({"data": PIXELS}, 4), "file")["data"], PIXELS)


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"data": x}, lambda x: [1, (x,)], lambda x: {"labels": [x]}])
def test_a_call_is_refused_and_not_made(tmp_path: Path, protocol: int, wrap: Any):
    victim = tmp_path / "made"
    for call in (Calls(os.mkdir, str(victim)), Calls(exec, f"import os; os.mkdir({str(victim)!r})")):
        with pytest.raises(InvalidDataset, match=r"file is a pickle with the name .*not carried out"):
            load_plain(pickle.dumps(wrap(call), protocol), "file")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"(S'true'\nios\nsystem\n.", "the instruction INST"),
        (b"(cos\nsystem\nS'true'\no.", "the name os.system"),
        (b"(U\x01ao.", "the instruction OBJ"),
        (b"cnumpy\nndarray\n)\x81.", "the instruction NEWOBJ"),
        (b"cnumpy\nndarray\n)}\x92.", "the instruction NEWOBJ_EX"),
        (b"Pid\n.", "the instruction PERSID"),
        (b"U\x02idQ.", "the instruction BINPERSID"),
        (b"\x82\x01.", "the instruction EXT1"),
        (b"\x97.", "the instruction NEXT_BUFFER"),
        (b"U\x06systemU\x02os\x93.", "the name system.os"),
        (b"cnumpy.core.multiarray\nscalar\n.", "the name numpy.core.multiarray.scalar"),
        (b"cpkgutil\nresolve_name\nU\x09os.system\x85R.", "the name pkgutil.resolve_name"),
        (b"cbuiltins\ngetattr\n.", "the name builtins.getattr"),
        (b"cnumpy\ndtype.__class__\n.", "the name numpy.dtype.__class__"),
        # The three names themselves, called with other things than arrays are written with.
        (b"cnumpy\nndarray\n(K\x01tR.", "a call"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x09\x85U\x01btR.", "a call"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01OtR.", "a call"),
        (b"]U\x01a\x85b.", "an object's state"),
        (b"}]U\x01as.", "a list as the key"),
        (b"K\x01K\x02a.", "items appended to a int"),
    ],
)
def test_every_other_instruction_is_refused(content: bytes, says: str):
    with pytest.raises(InvalidDataset, match=says):
        load_plain(content, "file")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((b"U\x02u1", b"U\x02O8"), "an array of the type 'O8', not of bytes"),
        ((b"U\x02u1", b"U\x02f8"), "an array of the type 'f8'"),
        ((b"K\x03K\x04\x86", b"K\x03K\xff\x86"), r"an array of the shape \(3, 255\) and of 12 bytes"),
        ((b"K\x03K\x04\x86", b"J\xff\xff\xff\xffJ\xf4\xff\xff\xff\x86"), r"an array of the shape \(-1, -12\)"),
    ],
)
def test_arrays_that_are_not_what_they_say(change: tuple[bytes, bytes], says: str):
    content = Python2Pickle().dump({"data": PIXELS})
    assert content.count(change[0]) == 1
    with pytest.raises(InvalidDataset, match=says):
        load_plain(content.replace(*change), "file")


def test_a_single_array_only():
    with pytest.raises(InvalidDataset, match="more than one array"):
        load_plain(Python2Pickle().dump({"a": PIXELS, "b": PIXELS}), "file")


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_damage_at_every_place(monkeypatch: pytest.MonkeyPatch):
    def never(*_: object) -> None:
        raise AssertionError("Python's own machine was started")

    content = Python2Pickle().dump({"labels": [1, 2, 300], "data": PIXELS, "names": ["a", "b" * 300]})
    monkeypatch.setattr(pickle, "loads", never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    for end in range(len(content)):
        with pytest.raises(InvalidDataset):
            load_plain(content[:end], "file")
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        damaged = bytearray(content)
        damaged[draw.integers(len(content) - 400)] = draw.integers(256)
        try:
            load_plain(bytes(damaged), "file")
        except InvalidDataset:
            refused += 1
    assert refused > 300


def test_the_memo_takes_no_more_memory_than_the_file():
    # To Python's machine a place in the memo is the length of an array.
    assert load_plain(b"K\x01r" + b"\xff" * 4 + b".", "file") == 1


def test_the_writer_of_the_tests_writes_what_python_2_did():
    """The first bytes of the published data_batch_1."""
    begins = Python2Pickle().dump({"batch_label": "training batch 1 of 5", "labels": [6, 9]})
    assert begins.startswith(
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(K\x06K\x09"
    )
    out = io.StringIO()
    pickletools.dis(Python2Pickle().dump({"data": PIXELS}), out)
    assert "REDUCE" in out.getvalue()
