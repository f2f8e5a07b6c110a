"""The artifact `model.mpz`: a network in few bytes, without loss. Zeros of pruned layers take next to no room.

    offset  bytes  what
         0      8  magic  89 4d 50 5a 0d 0a 1a 0a  (".MPZ" and the line ends that a text-mode copy would change)
         8      2  version, 2            (integers are little-endian, unsigned; version 1 is read too: `compact_v1`)
        10      4  length of the header as stored
        14     32  SHA-256 of all that follows
        46      -  header: the NetworkDescription as JSON, deflated
         -      -  what `tensor_stream` lays down for the tensors

Names, shapes and types of the tensors are those of the network that the description builds, and are not stored. Values
come back bit by bit, with NaNs, infinities and -0.0, and quantized weights with their grids. The same network always
gives the same bytes. Nothing in the file is executed, and nothing is inflated or decoded that is not asked for by the
network that the header describes, which is bounded itself.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

from pydantic import ValidationError

from modelpress.engine.formats import compact_v1, tensor_stream
from modelpress.engine.formats.packing import Chunk, PackingError, unpack
from modelpress.engine.network import Network, rebuild
from modelpress.spec.described_file import COMPACT_MAGIC
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import NetworkDescription

VERSION = 2
_FIXED = struct.Struct("<8sHI32s")
FIXED_BYTES = _FIXED.size
# A network of 20,000 layers, each with an edit, describes itself in well under this.
_LONGEST_HEADER = 16 * 2**20


def write(network: Network, path: Path) -> None:
    """Write the network. Raises InvalidModel when a tensor is of a type that the container does not know."""
    header = zlib.compress(network.description.model_dump_json().encode(), 9)
    body = header + tensor_stream.pack_state(network.module.state_dict(), network.grids)
    path.write_bytes(_FIXED.pack(COMPACT_MAGIC, VERSION, len(header), hashlib.sha256(body).digest()) + body)


def read(path: Path) -> Network:
    """The network of a file that `write` made, in evaluation mode, with the grids of its quantized weights.

    Raises InvalidModel for a file that is not a compact container, is cut off, was altered, or does not hold what the
    network it describes needs.
    """
    content = memoryview(path.read_bytes())
    if bytes(content[:8]) != COMPACT_MAGIC:
        raise InvalidModel("the file is not a compact container (.mpz) of ModelPress")
    if len(content) < _FIXED.size:
        raise InvalidModel("the compact container is cut off; download it again")
    _, version, length, digest = _FIXED.unpack_from(content)
    if not 1 <= version <= VERSION:
        raise InvalidModel(
            f"the compact container has version {version}, this ModelPress reads versions up to {VERSION}; update it"
        )
    body = content[_FIXED.size :]
    if hashlib.sha256(body).digest() != digest:
        raise InvalidModel("the compact container is cut off or was altered: its SHA-256 differs; download it again")
    header, tensors = bytes(body[:length]), body[length:]
    if version == 1:
        return compact_v1.read_body(header, tensors)
    try:
        text = unpack(Chunk(True, header), _LONGEST_HEADER, exact=False)
        description = NetworkDescription.model_validate_json(text)
    except (PackingError, ValidationError) as error:
        raise InvalidModel(
            "the compact container's header cannot be read; it is damaged, or a newer ModelPress wrote it"
        ) from error
    module = rebuild(description)
    try:
        grids = tensor_stream.unpack_state(tensors, module.state_dict())
    except PackingError as error:
        raise InvalidModel(f"the compact container is damaged: {error}; download it again") from error
    return Network(module.eval(), description, grids=grids)
