"""The artifact `model.safetensors`: the state dict, with the network's description as JSON in the metadata.

Any safetensors reader can read it; zeros take as much room as other weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modelpress.engine.formats.state_dict import read_safetensors
from modelpress.engine.formats.weights import load_weights
from modelpress.engine.network import Network, rebuild
from modelpress.spec.described_file import METADATA_KEY
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import NetworkDescription


def write(network: Network, path: Path) -> None:
    """Write the network, dense. The same network always gives the same bytes."""
    # Cloned: safetensors refuses tensors that share memory, as tied weights do.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.module.state_dict().items()}
    # One entry only, since the library writes several in no fixed order.
    save_file(state, path, metadata={METADATA_KEY: network.description.model_dump_json()})


def read(path: Path) -> Network:
    """The network of a file that `write` made, in evaluation mode. Raises InvalidModel for any other file."""
    state = read_safetensors(path)  # first, as it says what is wrong with a file that is none
    description = _description(path)
    module = rebuild(description)
    load_weights(module, state, "the network that the file describes")
    return Network(module.eval(), description)


def is_described(path: Path) -> bool:
    """Whether the metadata of a safetensors file name a network; False for a file that is none."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return METADATA_KEY in (file.metadata() or {})
    except SafetensorError:
        return False


def stored_bytes(state: Mapping[str, Tensor]) -> int:
    """Size in bytes of the plain safetensors file of a state dict (no metadata), without writing it.

    Layout (safetensors, "Format"): 8 bytes with the length of the header, the header as JSON padded with spaces to a
    multiple of 8, the tensors. The library lays tensors of wider types first, then by name.
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in sorted(state.items(), key=lambda item: (-_ORDER.index(str(item[1].dtype)), item[0])):
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + (length + 7) // 8 * 8 + end


# Narrow to wide, as the library orders them.
_DTYPES = {
    "torch.bool": "BOOL",
    "torch.uint8": "U8",
    "torch.int8": "I8",
    "torch.int16": "I16",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int32": "I32",
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.int64": "I64",
}
_ORDER = list(_DTYPES)


def _description(path: Path) -> NetworkDescription:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except SafetensorError as error:
        raise InvalidModel(f"the file cannot be read: {str(error)[:200]}") from error
    if text is None:
        raise InvalidModel(
            "the file is safetensors, but not one that ModelPress wrote: it does not say which network its weights are "
            "for. Upload it with the name of its architecture"
        )
    try:
        return NetworkDescription.model_validate_json(text)
    except ValidationError as error:
        raise InvalidModel(
            f"the file's description of the network cannot be read ({error.errors()[0]['msg']}); "
            "it is damaged, or a newer ModelPress wrote it"
        ) from error
