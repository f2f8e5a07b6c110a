"""What is known of a network before its steps are done: its tensors by samples, and which layers stay as they are."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from modelpress.engine.estimate.sample import Sample, sample_tensors
from modelpress.engine.estimate.stored import stored_bits
from modelpress.engine.formats.compact import FIXED_BYTES
from modelpress.engine.formats.packing import pack
from modelpress.engine.network import Network, layer_types, weighted_layers
from modelpress.spec.network import NetworkDescription
from modelpress.spec.report import SkippedLayer


@dataclass(frozen=True)
class Outlook:
    """A network as some steps would leave it."""

    description: NetworkDescription
    tensors: Mapping[str, Sample]  # float32 ones of the state dict
    layers: Mapping[str, str]  # those with weights, names to types
    other_bytes: int  # of tensors of other types, as stored
    left_alone: tuple[SkippedLayer, ...] = field(default=())

    @classmethod
    def of(cls, network: Network) -> Outlook:
        """Of a network as it is."""
        state: dict[str, Tensor] = network.module.state_dict()
        others = b"".join(
            tensor.detach().contiguous().numpy().tobytes()
            for tensor in state.values()
            if not tensor.is_floating_point()
        )
        return cls(
            network.description,
            sample_tensors(state, network.grids),
            layer_types(weighted_layers(network.module)),
            len(pack(others).data),
        )

    def with_tensors(
        self, changed: Mapping[str, Sample], left_alone: Iterable[SkippedLayer] = (), **changes: object
    ) -> Outlook:
        """With these tensors in place of those of their names, and more layers that stay as they are."""
        left = (*self.left_alone, *left_alone)
        return replace(self, tensors={**self.tensors, **changed}, left_alone=left, **changes)  # type: ignore[arg-type]

    @property
    def stored_bytes(self) -> int:
        """Bytes of the compact container."""
        header = len(zlib.compress(self.description.model_dump_json().encode(), 9))
        return round(stored_bits(self.tensors.values()) / 8) + header + self.other_bytes + FIXED_BYTES
