"""Pickles that run code when they are loaded, wherever a reader might meet one."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator

import numpy as np

from tests.hostile import good
from tests.hostile.hostile_file import COMMAND, HostileFile


def files(seed: int) -> Iterator[HostileFile]:
    """Each payload in each place."""
    for what, payload in _payloads().items():
        yield HostileFile(f"pickles/bare {what}", "model", payload)
        yield HostileFile(f"pickles/bare data set {what}", "dataset", payload)
        yield HostileFile(f"pickles/data.pkl {what}", "model", _pt_with(payload))
        yield HostileFile(f"pickles/npy {what}", "dataset", _npy(payload))
        for name in ("images", "labels", "classes"):
            yield HostileFile(f"pickles/npz {name} {what}", "dataset", _npz_with(name, _npy(payload)))
        yield HostileFile(f"pickles/npz of a pickle {what}", "dataset", _npz_with("images", payload))
        yield HostileFile(f"pickles/pt given to load {what}", "artifact", _pt_with(payload))
        yield HostileFile(f"pickles/TorchScript {what}", "model", _pt_with(payload, "constants.pkl"))


def _payloads() -> dict[str, bytes]:
    found = {}
    calls = {
        "os.system": ("os", "system", (COMMAND,)),
        "posix.system": ("posix", "system", (COMMAND,)),
        "eval": ("builtins", "eval", (f"__import__('os').system({COMMAND!r})",)),
        "exec": ("builtins", "exec", (f"import os; os.system({COMMAND!r})",)),
        "subprocess": ("subprocess", "getoutput", (COMMAND,)),
        "open": ("io", "open", ("modelpress-canary", "w")),
        "runpy": ("runpy", "_run_code", (f"import os; os.system({COMMAND!r})", {})),
        "timeit": ("timeit", "timeit", (f"import os; os.system({COMMAND!r})", "pass", __import__("time").time, 1)),
        "torch.load": ("torch.serialization", "load", ("inputs/upload",)),
        "torch.hub": ("torch.hub", "load", ("stranger/repository", "model")),
        "numpy": ("numpy.testing._private.utils", "runstring", (f"import os; os.system({COMMAND!r})", {})),
        "ctypes": ("ctypes", "CDLL", ("libc.so.6",)),
        "importlib": ("importlib", "import_module", ("antigravity",)),
    }
    for name, (module, function, arguments) in calls.items():
        for protocol in (0, 2, 4):
            if name == "timeit" and protocol == 0:
                continue  # its argument is a function, which has no text of its own
            found[f"{name} protocol {protocol}"] = _reduce(module, function, arguments, protocol)
    found["resolve_name"] = _resolved("os:system")
    found["resolve_name of builtins"] = _resolved("builtins:exec", f"import os; os.system({COMMAND!r})")
    inner = found["os.system protocol 2"]
    found["nested in loads"] = _reduce("pickle", "loads", (inner,), 2)
    found["nested in torch bytes"] = _reduce("_codecs", "encode", (inner.decode("latin1"), "latin1"), 2)[:-1] + (
        b"cpickle\nloads\n\x8c\x01x\x85R."
    )
    found["in a dict of tensors"] = b"\x80\x02}X\x06\x00\x00\x00weight" + inner[2:-1] + b"s."
    found["after a good dict"] = pickle.dumps({}, 2)[:-1] + b"0" + inner[2:]
    found["by INST"] = f"(S'{COMMAND}'\nios\nsystem\n.".encode()
    found["by OBJ"] = b"(cos\nsystem\n" + f"S'{COMMAND}'\n".encode() + b"o."
    found["by BUILD"] = b"\x80\x02ccopyreg\n_reconstructor\n(cos\nsystem\ncbuiltins\nobject\nNtR}b."
    found["by STACK_GLOBAL"] = b"\x80\x04\x8c\x02os\x8c\x06system\x93" + _text(COMMAND) + b"\x85R."
    found["by EXT1"] = b"\x80\x02\x82\x01."
    found["deep"] = b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b"."
    found["a long that is none"] = b"\x80\x02\x8b\xff\xff\xff\x7f."
    found["a string that is none"] = b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little") + b"x."
    found["memo far away"] = b"\x80\x02Nr\xff\xff\xff\x7f."
    return found


def _reduce(module: str, function: str, arguments: tuple[object, ...], protocol: int) -> bytes:
    """The call, written by hand: nothing is imported to write it."""
    head, inner = (b"\x80" + bytes([protocol]), pickle.dumps(arguments, protocol)) if protocol else (b"", b"")
    if not protocol:
        inner = pickle.dumps(arguments, 0)
    else:
        inner = inner[2:]
        if protocol >= 4 and inner[:1] == b"\x95":
            inner = inner[9:]  # without its frame
    return head + f"c{module}\n{function}\n".encode() + inner[:-1] + b"R."


def _resolved(name: str, argument: str = COMMAND) -> bytes:
    """A name that no list of forbidden ones has: it is looked up when the pickle runs."""
    return b"\x80\x04cpkgutil\nresolve_name\n" + _text(name) + b"\x85R" + _text(argument) + b"\x85R."


def _text(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _pt_with(payload: bytes, name: str = "data.pkl") -> bytes:
    """The good .pt file with another pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good.pt())) as source, zipfile.ZipFile(file, "w") as target:
        for info in source.infolist():
            is_it = info.filename.endswith("/data.pkl") and name == "data.pkl"
            target.writestr(zipfile.ZipInfo(info.filename), payload if is_it else source.read(info))
        if name != "data.pkl":
            target.writestr(zipfile.ZipInfo(f"archive/{name}"), payload)
    return file.getvalue()


def _npy(payload: bytes) -> bytes:
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (3,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + payload


def _npz_with(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good.npz())) as source, zipfile.ZipFile(file, "w") as target:
        arrays = {info.filename: source.read(info) for info in source.infolist()}
        for member, array in {**arrays, f"{name}.npy": content}.items():
            target.writestr(zipfile.ZipInfo(member), array)
    return file.getvalue()
