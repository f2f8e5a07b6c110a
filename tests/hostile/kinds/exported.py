"""Exported networks (`.pt2`, ONNX) with payloads in every place where torch's own reader runs what it finds."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import onnx

from tests.hostile import good
from tests.hostile.hostile_file import CANARY, COMMAND, HostileFile

_CODE = f"__import__('os').system('{COMMAND}')"
_NAMES = (
    *("os.system", "builtins.eval", "builtins.exec", "torch.load", "torch.ops.load_library", "torch.hub.load"),
    *("torch.ops.aten.__class__.default", "torch.ops.aten.from_file.default", "torch.ops.aten._print.default"),
    *("torch.ops.profiler._record_function_enter_new.default", "torch._C._jit_init", "torch.ops.higher_order.cond"),
    *("_operator.attrgetter", "_operator.methodcaller", "math.floor; import os", "torch.ops.aten.relu.default.op", ""),
)
_LARGE = (-1, 2**31, 2**47, 2**63, 2**64, -(2**63))


class _Payload:
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        import os

        return os.system, (COMMAND,)


def files(seed: int) -> Iterator[HostileFile]:
    """One change in each file."""
    payload = pickle.dumps(_Payload())
    # Never opened, so harmless; all else that is changed here has to be refused.
    yield _pt2("pickled sample inputs", lambda name, content: payload if "sample_inputs" in name else content, True)
    for number, name in enumerate(_NAMES):
        yield _program(f"operator {number}", lambda document, name=name: _node(document).update(target=name))
    for what, change in _HARMLESS.items():
        yield _program(what, change, True)
    for what, change in _PROGRAMS.items():
        yield _program(what, change)
    for size in _LARGE:
        for key in ("sizes", "strides"):
            yield _weights(f"{key} {size}", lambda meta, key=key, size=size: meta[key].__setitem__(0, {"as_int": size}))
        yield _weights(f"offset {size}", lambda meta, size=size: meta.update(storage_offset={"as_int": size}))
    yield _weights("a size that is code", lambda meta: meta["sizes"].__setitem__(0, {"as_expr": {"expr_str": _CODE}}))
    for key, value in (("use_pickle", True), ("path_name", "../../../../etc/passwd"), ("path_name", "/etc/passwd")):
        yield _entry(f"{key} {value}", lambda entry, key=key, value=value: entry.update({key: value}))
    for member in ("data/aotinductor/model/a.so", "data/custom_objs/a", "extra/a.so", "../../outside", "models/b.json"):
        yield HostileFile(
            f"exported/member {member}", "graph", _rewritten(lambda _, content: content, {member: payload})
        )
    yield HostileFile("exported/deflated", "graph", _rewritten(lambda _, content: content, {}, zipfile.ZIP_DEFLATED))
    yield from _onnx()


def _onnx() -> Iterator[HostileFile]:
    for location in ("../../../../etc/passwd", "/etc/passwd", "weights.bin", "\x00", "a" * 5000):
        yield _model(f"weights in {location[:20]!r}", lambda model, location=location: _external(model, location))
    for size in (-1, 2**31, 2**62):
        yield _model(f"dims {size}", lambda model, size=size: model.graph.initializer[0].dims.__setitem__(0, size))
    for domain, name in (("", "Loop"), ("com.microsoft", "PythonOp"), ("", "PyOp"), ("ai.onnx.ml", "Scaler"), ("", "")):

        def rename(model: onnx.ModelProto, domain: str = domain, name: str = name) -> None:
            model.graph.node[0].domain, model.graph.node[0].op_type = domain, name

        yield _model(f"operator {domain}.{name}", rename)
    yield _model("opset 99", lambda model: model.opset_import[0].__setattr__("version", 99))
    yield _model("no nodes", lambda model: model.graph.ClearField("node"))


def _external(model: onnx.ModelProto, location: str) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=location))


def _model(what: str, change: Callable[[onnx.ModelProto], object]) -> HostileFile:
    model = onnx.load_from_string(good.onnx_model())
    change(model)
    return HostileFile(f"exported/onnx {what}", "graph", model.SerializeToString())


def _node(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["graph_module"]["graph"]["nodes"][0]
    return found


_HARMLESS: dict[str, Callable[[dict[str, Any]], object]] = {
    "guards that are code": lambda document: document.update(guards_code=[_CODE]),
    "ranges that are code": lambda document: document.update(range_constraints={_CODE: {"min_val": 0, "max_val": 9}}),
    "a version that is code": lambda document: document.update(torch_version=_CODE, verifiers=[_CODE]),
    "a stack that is code": lambda document: _node(document).update(
        metadata={"nn_module_stack": f"{_CODE},{_CODE},{_CODE}"}
    ),
}
_PROGRAMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a name that is code": lambda document: _node(document)["outputs"][0]["as_tensor"].update(name=f"x\n{_CODE}"),
    "a custom object": lambda document: _node(document)["inputs"].append(
        {"name": "x", "arg": {"as_custom_obj": {"name": CANARY, "class_fqn": "os.system"}}, "kind": 1}
    ),
    "a graph in an argument": lambda document: _node(document)["inputs"].append(
        {"name": "x", "arg": {"as_graph": {"name": "g", "graph": {}}}, "kind": 1}
    ),
    "an input of a class": lambda document: document["graph_module"]["signature"]["input_specs"].append(
        {"custom_obj": {"arg": {"name": "x", "class_fqn": "os.system"}, "custom_obj_name": "x"}}
    ),
    "too many nodes": lambda document: document["graph_module"]["graph"]["nodes"].extend([_node(document)] * 60_000),
    "deep arguments": lambda document: _node(document)["inputs"].append({"name": "x", "arg": _deep(), "kind": 1}),
}


def _deep() -> dict[str, Any]:
    argument: dict[str, Any] = {"as_int": 1}
    for _ in range(300):
        argument = {"as_nested": [argument]}
    return argument


def _program(what: str, change: Callable[[dict[str, Any]], object], harmless: bool = False) -> HostileFile:
    def changed(name: str, content: bytes) -> bytes:
        return _json(content, change) if name.startswith("models/") else content

    return _pt2(what, changed, harmless)


def _entry(what: str, change: Callable[[dict[str, Any]], object]) -> HostileFile:
    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith("model_weights_config.json"):
            return content
        return _json(content, lambda document: change(next(iter(document["config"].values()))))

    return _pt2(what, changed)


def _weights(what: str, change: Callable[[dict[str, Any]], object]) -> HostileFile:
    return _entry(what, lambda entry: change(entry["tensor_meta"]))


def _pt2(what: str, change: Callable[[str, bytes], bytes], harmless: bool = False) -> HostileFile:
    return HostileFile(f"exported/pt2 {what}", "graph", _rewritten(change, {}), may_be_taken=harmless)


def _same(_name: str, content: bytes) -> bytes:
    return content


def _json(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(content)
    change(document)
    return json.dumps(document).encode()


def _rewritten(
    change: Callable[[str, bytes], bytes], more: dict[str, bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good.pt2())) as old, zipfile.ZipFile(out, "w", compression) as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
        for name, content in more.items():
            new.writestr(f"{root}/{name}", content)
    return out.getvalue()
