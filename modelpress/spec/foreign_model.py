"""Model files of other tools: how each is told by its first bytes or its names, and what to do instead of uploading it.

The quick look at an upload and the engine both ask here, so that they say the same.
"""

from __future__ import annotations

import contextlib
import itertools
import pickletools
import re
from collections.abc import Callable, Collection

SAVE = (
    "save the weights alone: `safetensors.torch.save_file(model.state_dict(), 'model.safetensors')`, "
    "or `torch.save(model.state_dict(), 'model.pt')`"
)
# To paste where the module is in memory.
EXPORT = (
    "save its state dict and upload that with the name of the architecture:\n"
    '    torch.save(model.state_dict(), "weights.pt")\n'
    "or, for a network that has no name here, export it:\n"
    '    batch = torch.export.Dim("batch", min=1, max=4096)\n'
    "    program = torch.export.export(model.eval(), (torch.randn(2, 3, 224, 224),), dynamic_shapes=({0: batch},))\n"
    '    torch.export.save(program, "model.pt2")'
)
FROM_TENSORFLOW = (
    "write it as ONNX with tf2onnx (`python -m tf2onnx.convert --opset 17 {option} --output model.onnx`), "
    "or rebuild the network in PyTorch, then " + SAVE
)
_FROM_GGUF = "go back to the PyTorch module, then " + SAVE
FROM_TRANSFORMERS = (
    "export the module that gives the scores alone:\n"
    "    model = transformers.AutoModelForImageClassification.from_pretrained(folder, return_dict=False).eval()\n"
    '    batch = torch.export.Dim("batch", min=1, max=4096)\n'
    "    program = torch.export.export(model, (torch.randn(2, 3, 224, 224),), dynamic_shapes=({0: batch},))\n"
    '    torch.export.save(program, "model.pt2")\n'
    "or load the weights into the same network of torchvision or timm, then " + SAVE
)

TORCHSCRIPT = (
    "this is a TorchScript program, whose code is not run here. Where the module it was made of is, " + EXPORT + "\n"
    "From the TorchScript file alone its weights can be had: "
    '`torch.save(dict(torch.jit.load("model.pt").state_dict()), "weights.pt")`'
)
TRANSFORMERS_NAMES = (
    "its tensors have the names of a Hugging Face transformers model, not of an architecture here; "
    + (FROM_TRANSFORMERS)
)
_HUGGING_FACE = "this is a Hugging Face model folder; " + FROM_TRANSFORMERS
_SAVED_MODEL = "this is a TensorFlow SavedModel; " + FROM_TENSORFLOW.format(option="--saved-model FOLDER")
_KERAS = "; " + FROM_TENSORFLOW.format(option="--keras model.keras")
_PADDLE = "this is a PaddlePaddle model; write it as ONNX with paddle2onnx, or rebuild the network in PyTorch, then "
_PADDLE += SAVE
_FOR_A_RUNTIME = (
    "this is a model for {runtime}, made to be run and not to be read back; upload the network that it was made of, as "
    "`.pt2`, ONNX or a state dict, or where it is the file of a job here, that job's model.mpz"
)
_MXNET = "this is a parameter file of MXNet; rebuild the network in PyTorch, then " + SAVE
_HTML = (
    "this is a web page, not a model: an address that asked for a login, or gave an error, was saved in its place; "
    "download the file itself and upload that"
)
_LFS = "this is a pointer of Git LFS, not the file itself; run `git lfs pull`, then upload it again"
_ARCHIVE = "this is an archive; unpack it and upload the model file itself"
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd")


def foreign_bytes(head: bytes) -> str | None:
    """What to do about a file that begins with `head` (some kilobytes); None for one that no other tool is known by."""
    return next((message for matches, message in _BY_HEAD if matches(head)), None)


def foreign_members(names: Collection[str]) -> str | None:
    """What to do about an archive with members of these paths; None where they are no other tool's."""
    # A file lies at the top, or in the one folder that was packed.
    inner = {name.removeprefix("./") for name in names}
    inner |= {name.partition("/")[2] for name in inner}
    if "constants.pkl" in inner or ("data.pkl" in inner and any(name.startswith("code/") for name in inner)):
        return TORCHSCRIPT
    if "model.weights.h5" in inner:
        return "this is a Keras model" + _KERAS
    if "saved_model.pb" in inner or "saved_model.pbtxt" in inner:
        return _SAVED_MODEL
    if "config.json" in inner and any(_HUGGING_FACE_WEIGHTS.fullmatch(name) for name in inner):
        return _HUGGING_FACE
    if any(name.endswith(".xml") and name.removesuffix("xml") + "bin" in inner for name in inner):
        return _FOR_A_RUNTIME.format(runtime="OpenVINO")
    if any(name.endswith((".pdmodel", ".pdiparams")) for name in inner):
        return _PADDLE
    if any(name.endswith("-symbol.json") for name in inner):
        return _MXNET
    return None


def whole_model(pickled: bytes) -> str | None:
    """What to do about a pickle, of which this is the beginning, that is one object of some class.

    None for one that begins as dicts and tensors do. Its first two operations are looked at, and not carried out.
    """
    with contextlib.suppress(ValueError):
        for operation, argument, _ in itertools.islice(pickletools.genops(pickled), 2):
            if operation.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                return None if module in ("collections", "torch._utils") else pickled_objects(f"{module}.{name}"[:200])
    return None


def pickled_objects(first: str) -> str:
    """What to do about a file that holds objects of Python, the first of this class."""
    return (
        f"the file holds pickled Python objects (the first is {first}), not tensors alone; nothing of it was run. "
        "A whole pickled model needs its code to be read, so it is never loaded here. Where it was made, load it with\n"
        '    model = torch.load("model.pt", map_location="cpu", weights_only=False)\n'
        f"and {EXPORT}"
    )


def names_of_transformers(names: Collection[str]) -> bool:
    """Whether tensors of these names are a model's of the `transformers` library, by parts that only it uses."""
    return any(_TRANSFORMERS.search(name) for name in names)


_HUGGING_FACE_WEIGHTS = re.compile(
    r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)|(?:model\.safetensors|pytorch_model\.bin)\.index\.json"
    r"|tf_model\.h5|flax_model\.msgpack"
)
_TRANSFORMERS = re.compile(
    r"(?:^|\.)(?:"
    r"attention\.attention\.(?:query|key|value)"  # ViT, DeiT, DINOv2, BEiT
    r"|attention\.self\.(?:query|key|value)"  # BERT, Swin, SegFormer
    r"|self_attn\.[qkv]_proj"  # CLIP, SigLIP, Llama
    r"|embeddings\.(?:patch_embeddings|word_embeddings|position_embeddings)"
    r"|embedder\.embedder\.convolution"  # ResNet, RegNet
    r"|encoder\.stages\.\d+\.layers\.\d+\.(?:layer\.\d+\.convolution|dwconv)"  # ResNet, ConvNeXt
    r"|conv_stem\.convolution"  # MobileNet
    r")\."
)


def _is_html(head: bytes) -> bool:
    return head[:512].removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))


_BY_HEAD: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (
        lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"),
        "this is an HDF5 file, as Keras writes it" + _KERAS,
    ),
    (
        lambda head: head[4:8] == b"TFL3",
        "this is a TensorFlow Lite model; " + FROM_TENSORFLOW.format(option="--tflite model.tflite"),
    ),
    (
        lambda head: re.fullmatch(rb"ET\d\d", head[4:8]) is not None,
        _FOR_A_RUNTIME.format(runtime="ExecuTorch"),
    ),
    (lambda head: head.startswith(b"GGUF"), f"this is a GGUF file of a language model; {_FROM_GGUF}"),
    (lambda head: head.startswith(b"\x93NUMPY"), f"this is a numpy array, not a model; {SAVE}"),
    # NDArray lists: dmlc's magic number 0x112, then eight reserved bytes (mxnet, src/ndarray/ndarray.cc).
    (lambda head: head.startswith(b"\x12\x01" + bytes(14)), _MXNET),
    (lambda head: head.startswith(b"version https://git-lfs"), _LFS),
    (_is_html, _HTML),
    (lambda head: head.startswith(_COMPRESSED) or head[257:262] == b"ustar", _ARCHIVE),
)
