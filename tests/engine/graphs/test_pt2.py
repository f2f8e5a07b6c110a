"""`.pt2` files that are damaged, crafted, or use what is not known: each is refused in words, none runs anything."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.archive import placed
from modelpress.engine.graphs.exported import lifted_network
from modelpress.spec.failure import CompressionError, InvalidModel
from tests.support.exported import Photographer, export, rewritten, trained, with_program, with_weights


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("exported") / "model.pt2"
    return export(trained(Photographer()), path, torch.randn(2, 1, 8, 8)).read_bytes()


@pytest.fixture
def path(written: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt2"
    path.write_bytes(written)
    return path


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def test_the_pickles_in_a_file_are_never_opened(path: Path, tmp_path: Path) -> None:
    payload = pickle.dumps(Runs(tmp_path / "ran"))
    rewritten(path, lambda name, content: payload if name.startswith("data/sample_inputs") else content)
    assert pt2.read(path).state.keys() >= {"stem.weight", "scale"}
    assert not (tmp_path / "ran").exists()


def nodes(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["graph_module"]["graph"]["nodes"]
    return found


def test_expressions_and_guards_are_not_read(path: Path, tmp_path: Path) -> None:
    code = f"__import__('os').mkdir({str(tmp_path / 'ran')!r})"

    def change(document: dict[str, Any]) -> None:
        document["guards_code"] = [code]
        document["range_constraints"] = {code: {"min_val": code, "max_val": code}}
        for value in document["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"] = {"expr_str": code, "hint": None}

    lifted_network(pt2.read(with_program(path, change)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "torch.ops.aten.__class__.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten._print.default",
        "torch.ops.mine.run.default",
        "torch.ops.higher_order.cond",
        "_operator.getitem",
        "",
        None,
        7,
    ],
)
def test_an_operator_that_is_not_in_the_list_is_named(target: object, path: Path) -> None:
    with_program(path, lambda document: nodes(document)[3].update(target=target))
    with pytest.raises(InvalidModel, match=r"the network calls .*cannot be read here") as error:
        pt2.read(path)
    assert str(target) in error.value.message


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "pickled weights": (lambda config: config["scale"].update(use_pickle=True), "pickled weights"),
    "a weight that is elsewhere": (lambda config: config["scale"].update(path_name="../../models/model.json"), "lacks"),
    "an offset beyond the end": (
        lambda config: config["scale"]["tensor_meta"].update(storage_offset={"as_int": 1}),
        "lies outside",
    ),
    "a negative offset": (
        lambda config: config["scale"]["tensor_meta"].update(storage_offset={"as_int": -1}),
        "not described as torch does",
    ),
    "a size beyond the end": (
        lambda config: config["stem.weight"]["tensor_meta"]["sizes"].__setitem__(0, {"as_int": 9}),
        "lies outside",
    ),
    "a huge size": (
        lambda config: config["stem.weight"]["tensor_meta"]["sizes"].__setitem__(0, {"as_int": 2**47}),
        "lies outside",
    ),
    "a stride beyond the end": (
        lambda config: config["stem.weight"]["tensor_meta"]["strides"].__setitem__(0, {"as_int": 2**40}),
        "lies outside",
    ),
    "one number for many": (
        lambda config: config["stem.weight"]["tensor_meta"].update(
            sizes=[{"as_int": 2**40}], strides=[{"as_int": 0}], storage_offset={"as_int": 0}
        ),
        "lies outside",
    ),
    "a size that is an expression": (
        lambda config: config["stem.weight"]["tensor_meta"]["sizes"].__setitem__(0, {"as_expr": {"expr_str": "s0"}}),
        "not described as torch does",
    ),
    "fewer strides than sizes": (
        lambda config: config["stem.weight"]["tensor_meta"]["strides"].pop(),
        "as many strides",
    ),
    "a type that is none": (lambda config: config["scale"]["tensor_meta"].update(dtype=99), "of type 99"),
    "complex numbers": (lambda config: config["scale"]["tensor_meta"].update(dtype=10), "of type 10"),
    "a sparse weight": (lambda config: config["scale"]["tensor_meta"].update(layout=2), "plain, dense"),
    "no entry": (lambda config: config.pop("scale"), "lacks the weight 'scale'"),
    "an entry that is text": (lambda config: config.update(scale="x"), "not described as torch does"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_are_not_as_torch_writes_them_are_refused(change: str, path: Path) -> None:
    altered, message = CHANGES[change]
    with_weights(path, altered)
    with pytest.raises(InvalidModel, match=message):
        pt2.read(path)


PROGRAMS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no graph": (lambda document: document.pop("graph_module"), "not as torch writes it"),
    "nodes that are text": (
        lambda document: document["graph_module"]["graph"].update(nodes="abc"),
        "as torch writes it",
    ),
    "a value before it is given": (
        lambda document: nodes(document).insert(0, nodes(document).pop()),
        "nothing before it gave",
    ),
    "a value twice": (lambda document: nodes(document).append(nodes(document)[-1]), "two nodes give"),
    "a name that is code": (
        lambda document: nodes(document)[-1]["outputs"][0]["as_tensor"].update(name="x; import os"),
        "cannot be read: String should match",
    ),
    "a custom object": (
        lambda document: nodes(document)[0]["inputs"].append({"name": "x", "arg": {"as_custom_obj": {}}, "kind": 1}),
        "argument of kind 'as_custom_obj'",
    ),
    "a graph within": (
        lambda document: nodes(document)[0]["inputs"].append({"name": "x", "arg": {"as_graph": {}}, "kind": 1}),
        "argument of kind 'as_graph'",
    ),
    "an input that is no tensor": (
        lambda document: document["graph_module"]["signature"]["input_specs"].append(
            {"custom_obj": {"arg": {"name": "x", "class_fqn": "y"}, "custom_obj_name": "z"}}
        ),
        "'custom_obj', which is no tensor",
    ),
}


@pytest.mark.parametrize("change", PROGRAMS)
def test_graphs_that_are_not_as_torch_writes_them_are_refused(change: str, path: Path) -> None:
    altered, message = PROGRAMS[change]
    with_program(path, altered)
    with pytest.raises(InvalidModel, match=message):
        pt2.read(path)


def test_an_argument_that_makes_no_sense_is_refused_when_the_graph_is_tried(path: Path) -> None:
    with_program(path, lambda document: nodes(document)[0]["inputs"][3].update(arg={"as_ints": [1, 2, 3, 4]}))
    with pytest.raises(InvalidModel, match="does not run on a batch"):
        lifted_network(pt2.read(path))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data/aotinductor/model/x.so": b"\x7fELF"}, "compiled code or a custom object"),
        ({"data/custom_objs/x": b""}, "compiled code or a custom object"),
        ({"extra/x.so": b"\x7fELF"}, "compiled code or a custom object"),
        ({"models/second.json": b"{}"}, "2 programs"),
        ({"../../outside": b""}, "outside of its folder"),
    ],
)
def test_members_that_do_not_belong_there_are_refused(more: dict[str, bytes], message: str, path: Path) -> None:
    with pytest.raises(InvalidModel, match=message):
        pt2.read(rewritten(path, more=more))


def test_compressed_members_are_refused(path: Path) -> None:
    with pytest.raises(InvalidModel, match="compressed or encrypted"):
        pt2.read(rewritten(path, compression=zipfile.ZIP_DEFLATED))


def test_a_member_named_twice_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"other")
    with pytest.raises(InvalidModel, match="twice"):
        pt2.read(path)


def test_members_that_overlap_are_refused(path: Path) -> None:
    # The index's first two entries point at the same content.
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first = archive.start_dir
    second = content.index(b"PK\x01\x02", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match="overlaps another"):
        pt2.read(path)


def test_files_cut_anywhere_and_altered_anywhere_are_refused_or_read(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    chance = random.Random(0)  # noqa: S311
    for cut in sorted(chance.sample(range(len(written)), 40)):
        path.write_bytes(written[:cut])
        with pytest.raises(InvalidModel):
            pt2.read(path)
    for _ in range(60):
        content = bytearray(written)
        for _ in range(chance.choice([1, 3, 30])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            pt2.read(path)
        except CompressionError:
            continue


@pytest.mark.parametrize(
    ("sizes", "strides", "offset", "expected"),
    [
        ([2, 3], [3, 1], 0, [[0, 1, 2], [3, 4, 5]]),
        ([3, 2], [1, 3], 0, [[0, 3], [1, 4], [2, 5]]),
        ([2], [1], 4, [4, 5]),
        ([], [], 5, 5),
        ([0, 7], [7, 1], 0, []),
    ],
)
def test_a_tensor_is_taken_from_where_it_lies(
    sizes: list[int], strides: list[int], offset: int, expected: object
) -> None:
    storage = torch.arange(6, dtype=torch.int32).numpy().tobytes()
    found = placed(storage, torch.int32, sizes, strides, offset)
    assert found.tolist() == expected
    assert list(found.shape) == sizes
    assert found.is_contiguous()


@pytest.mark.parametrize(
    ("sizes", "strides", "offset"), [([7], [1], 0), ([2], [1], 5), ([2, 2], [5, 1], 0), ([8], [0], 0), ([2], [1, 1], 0)]
)
def test_a_tensor_that_lies_outside_is_refused(sizes: list[int], strides: list[int], offset: int) -> None:
    with pytest.raises(InvalidModel):
        placed(bytes(24), torch.int32, sizes, strides, offset)
