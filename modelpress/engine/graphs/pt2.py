"""A `.pt2` file (`torch.export.save`) as a program of ATen operators.

torch's own reader runs code that a crafted file brings (pickled sample inputs, shape expressions, guards); this one
takes from the JSON what it knows, and refuses the rest by name. Expressions of sizes are not read at all: a size that
depends on the batch is computed again by the operators of the graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from modelpress.engine.graphs.archive import AGAIN, DTYPES, Archive
from modelpress.engine.graphs.lift import Program, loose_weights
from modelpress.engine.graphs.operators import OPERATORS
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import (
    MOST_NODES,
    Argument,
    Call,
    DataType,
    Graph,
    Infinite,
    InputDevice,
    Item,
    MemoryFormat,
    TensorShape,
    ValueOf,
    WeightOf,
)

# Checks that the exporter writes down, and compute nothing.
_CHECKS = frozenset(
    {
        "_assert_async.msg",
        "_assert_scalar.default",
        "_assert_tensor_metadata.default",
        "sym_constrain_range.default",
        "sym_constrain_range_for_size.default",
    }
)
_SIZES = {
    "_operator.add": "size.add",
    "_operator.sub": "size.sub",
    "_operator.mul": "size.mul",
    "_operator.floordiv": "size.floordiv",
    "_operator.mod": "size.mod",
    "_operator.neg": "size.neg",
}
_COMPARISONS = {"_operator.eq", "_operator.ne", "_operator.ge", "_operator.gt", "_operator.le", "_operator.lt"}
# torch/_export/serde/schema.py, MemoryFormat.
_MEMORY_FORMATS = {
    1: "contiguous_format",
    2: "channels_last",
    3: "channels_last_3d",
    4: "preserve_format",
}
# What operators do in training alone: the place of the argument that says so, and what it is for a prediction.
_TRAINING = {
    "batch_norm": (5, False),
    "dropout": (2, False),
    "feature_dropout": (2, False),
    "gru": (6, False),
    "instance_norm": (5, False),
    "lstm": (6, False),
    "rnn_relu": (6, False),
    "rnn_tanh": (6, False),
    "scaled_dot_product_attention": (4, 0.0),
}
_SCOPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SHOWN = 12


def read(path: Path) -> Program:
    """The program in a `.pt2` file.

    Raises InvalidModel for a file that torch did not write, that is damaged, or that uses what is not known here; the
    message names the operators.
    """
    with Archive(path) as archive:
        document = archive.program()
        weights = archive.weights() | archive.constants()
    try:
        return _Reader(document, weights).result()
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InvalidModel(f"the .pt2 file's graph is not as torch writes it ({error!r:.100}); {AGAIN}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidModel(
            f"the .pt2 file's graph cannot be read: {first['msg'][:200]} at {'.'.join(map(str, first['loc']))[:100]}"
        ) from error


class _Reader:
    """One file's graph on its way."""

    def __init__(self, document: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        module = document["graph_module"]
        self._graph = module["graph"]
        self._signature = module["signature"]
        self._weights = weights
        # A name in the graph that stands for a weight, to the weight's own.
        self._names: dict[str, str] = {}
        self._inputs: dict[str, TensorShape] = {}
        self._trainable: set[str] = set()
        self._scopes: dict[str, str] = {}

    def result(self) -> Program:
        for spec in self._signature["input_specs"]:
            self._input(spec)
        if len(self._graph["nodes"]) > MOST_NODES:
            raise InvalidModel(f"the graph has more than {MOST_NODES:,} nodes")
        self._refuse_unknown()
        nodes = [call for node in self._graph["nodes"] if (call := self._call(node)) is not None]
        used = set(self._names.values())
        state = {name: tensor for name, tensor in self._weights.items() if name in used}
        graph = Graph(
            inputs=self._inputs,
            weights=loose_weights(state, self._trainable),
            nodes=tuple(nodes),
            outputs=tuple(self._outputs()),
        )
        return Program(graph, state, self._scopes, frozenset(used - self._trainable))

    def _input(self, spec: Mapping[str, Any]) -> None:
        """One input of the graph: what the user gives, or a weight."""
        ((kind, content),) = spec.items()
        match kind:
            case "user_input":
                argument = content["arg"]
                if "as_tensor" not in argument:
                    raise InvalidModel("the network takes something else than tensors; export it with tensors alone")
                name = argument["as_tensor"]["name"]
                meta = self._graph["tensor_values"][name]
                sizes = [size.get("as_int") for size in meta["sizes"]]
                if meta["dtype"] not in DTYPES or not sizes or None in sizes[1:]:
                    raise InvalidModel(
                        "the network's input has a size that is not fixed, beside the batch; export it for images of "
                        "one size"
                    )
                self._inputs[name] = TensorShape(
                    # 0 stands for a batch of any size.
                    shape=(sizes[0] or 0, *(size for size in sizes[1:] if size is not None)),
                    dtype=_dtype(meta["dtype"]),
                )
            case "parameter" | "buffer" | "tensor_constant":
                weight = content[f"{kind}_name"]
                if weight not in self._weights:
                    raise InvalidModel(f"the .pt2 file lacks the weight {weight[:100]!r}; upload it whole, or {AGAIN}")
                self._names[content["arg"]["name"]] = weight
                if kind == "parameter":
                    self._trainable.add(weight)
            case _:
                raise InvalidModel(f"the graph takes a {kind!r}, which is no tensor; export the plain module")

    def _refuse_unknown(self) -> None:
        """Name every operator that is not known, before the first is looked at."""
        unknown = sorted({node["target"] for node in self._graph["nodes"] if _operator(node["target"]) is None})
        if unknown:
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            raise InvalidModel(
                f"the network calls {', '.join(str(name)[:100] for name in unknown[:_SHOWN])}{more}, which cannot be "
                "read here; replace them by operators of torch that compute the same, and export it again"
            )

    def _call(self, node: Mapping[str, Any]) -> Call | None:
        operator = _operator(node["target"])
        if not operator:
            return None
        given = [name for output in node["outputs"] for name in _output_names(output)]
        arguments: list[Argument] = []
        options: dict[str, Argument] = {}
        for argument in node["inputs"]:
            value = self._argument(argument["arg"])
            if argument.get("kind") == 2:  # torch/_export/serde/schema.py, ArgumentKind.KEYWORD
                # Where a tensor lies is the business of whoever runs the network.
                if argument["name"] not in ("layout", "pin_memory"):
                    options[argument["name"]] = value
            else:
                arguments.append(value)
        if operator == "add_.Tensor" and self._counts_batches(arguments):
            # What a batch norm does in training, which was on when the model was exported.
            return None
        if (found := _TRAINING.get(operator.partition(".")[0].removesuffix("_"))) is not None:
            place, value = found
            # An instance norm without running statistics takes those of the images, in a prediction too.
            if len(arguments) > place and not (operator.startswith("instance_norm") and arguments[3] is None):
                arguments[place] = value
            options.pop("dropout_p", None)  # 0 by default
        scope = _scope(node.get("metadata", {}).get("nn_module_stack", ""))
        if scope and given:
            self._scopes[given[0]] = scope
        return Call(operator=operator, arguments=tuple(arguments), options=options, outputs=tuple(given))

    def _counts_batches(self, arguments: list[Argument]) -> bool:
        first = arguments[0] if arguments else None
        return isinstance(first, WeightOf) and first.weight.endswith("num_batches_tracked")

    def _argument(self, argument: Mapping[str, Any]) -> Argument:
        ((kind, value),) = argument.items()
        match kind:
            case "as_tensors" | "as_optional_tensors" | "as_ints" | "as_floats" | "as_bools" | "as_strings":
                return tuple(self._item(kind, item) for item in value)
            case "as_sym_ints" | "as_sym_bools" | "as_sym_floats":
                return tuple(self._item(kind.removesuffix("s"), item) for item in value)
            case _:
                return self._item(kind, value)

    def _item(self, kind: str, value: Any) -> Item:
        match kind, value:
            case ("as_none", _):
                return None
            case ("as_tensor" | "as_tensors", {"name": str(name)}):
                return self._value(name)
            case ("as_optional_tensor" | "as_optional_tensors", {"as_tensor": {"name": str(name)}}):
                return self._value(name)
            case ("as_optional_tensor" | "as_optional_tensors", {"as_none": _}):
                return None
            case ("as_sym_int" | "as_sym_bool" | "as_sym_float", {"as_name": str(name)}):
                return ValueOf(value=name)
            case ("as_sym_int" | "as_sym_bool" | "as_sym_float", {"as_int": number}):
                return _plain(number)
            case ("as_sym_int" | "as_sym_bool" | "as_sym_float", {"as_bool": number} | {"as_float": number}):
                return _plain(number)
            case ("as_int" | "as_ints" | "as_bool" | "as_bools" | "as_string" | "as_strings", _):
                return _plain(value)
            case ("as_float" | "as_floats", _):
                return _float(value)
            case ("as_scalar_type", int(code)):
                return _dtype(code)
            case ("as_memory_format", int(code)) if code in _MEMORY_FORMATS:
                return MemoryFormat.model_validate({"memory_format": _MEMORY_FORMATS[code]})
            case ("as_device", _):
                return InputDevice()
            case ("as_layout", _):
                return None
        raise InvalidModel(f"the graph holds an argument of kind {kind[:60]!r}, which cannot be read here")

    def _value(self, name: str) -> ValueOf | WeightOf:
        weight = self._names.get(name)
        return ValueOf(value=name) if weight is None else WeightOf(weight=weight)

    def _outputs(self) -> list[str]:
        found = []
        for spec in self._signature["output_specs"]:
            ((kind, content),) = spec.items()
            if kind == "buffer_mutation":
                continue  # a batch norm's statistics, which the layer keeps itself
            argument = content["arg"] if kind == "user_output" else {}
            if "as_tensor" not in argument:
                raise InvalidModel(
                    f"the network gives a {kind!r} that is no tensor; export it so that it gives tensors"
                )
            found.append(argument["as_tensor"]["name"])
        return found


def _operator(target: object) -> str | None:
    """Our name for an operator; empty for what computes nothing, None for what is not known."""
    if not isinstance(target, str):
        return None
    name = target.removeprefix("torch.ops.aten.")
    if name in _CHECKS or target in _COMPARISONS:
        return ""
    name = _SIZES.get(target, name)
    return name if name in OPERATORS else None


def _output_names(output: Mapping[str, Any]) -> list[str]:
    ((kind, value),) = output.items()
    match kind, value:
        case ("as_tensor", {"name": str(name)}):
            return [name]
        case ("as_tensors", list()):
            return [item["name"] for item in value]
        case ("as_sym_int", {"as_name": str(name)}):
            return [name]
        case ("as_none", _):
            return ["_unused"]
    raise InvalidModel(f"the graph gives a value of kind {kind[:60]!r}, which cannot be read here")


def _plain(value: Any) -> bool | int | str:
    if not isinstance(value, bool | int | str) or (isinstance(value, str) and len(value) > 1_000):
        raise TypeError(type(value).__name__)
    return value


def _float(value: Any) -> float | Infinite:
    if isinstance(value, str):  # as JSON has no number for it
        texts = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}
        return Infinite.model_validate({"number": texts[value]})
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        return Infinite.model_validate({"number": str(number)})
    return number


def _dtype(code: int) -> DataType:
    if code not in DTYPES:
        raise InvalidModel(f"the graph uses numbers of type {code} of torch.export, which cannot be read here")
    return DataType.model_validate({"dtype": str(DTYPES[code]).removeprefix("torch.")})


def _scope(stack: str) -> str:
    """The innermost module of `L__self__,,...ResNet;L__self__conv1,conv1,...Conv2d`, where it has a name."""
    if not isinstance(stack, str) or len(stack) > 10_000:
        return ""
    parts = stack.rpartition(";")[2].split(",")
    return parts[1] if len(parts) > 1 and len(parts[1]) < 200 and _SCOPE.fullmatch(parts[1]) else ""
