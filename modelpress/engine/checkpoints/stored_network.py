"""A network as a snapshot, and back: what files of a network hold, and what they leave out, its masks and grids."""

from __future__ import annotations

from pydantic import Field

from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint, join, part_of
from modelpress.engine.formats.weights import load_weights
from modelpress.engine.network import Network, rebuild
from modelpress.engine.quantize.grid import Grid
from modelpress.spec.config import Config
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import NetworkDescription


class StoredNetwork(Config):
    """What a network is, and which of its weights are held."""

    description: NetworkDescription
    masked: tuple[str, ...] = Field(description="Names of masked weights, in the order in which they were masked.")
    quantized: tuple[str, ...] = Field(description="Names of weights on grids, likewise.")


def structure_snapshot(network: Network) -> Snapshot:
    """All of a network but its weights."""
    masks = {f"mask/{name}": mask for name, mask in network.masks.items()}
    levels = {f"levels/{name}": grid.levels for name, grid in network.grids.items()}
    scales = {f"scales/{name}": grid.scales for name, grid in network.grids.items()}
    facts = StoredNetwork(description=network.description, masked=tuple(network.masks), quantized=tuple(network.grids))
    return Snapshot(masks | levels | scales, facts.model_dump(mode="json"))


def network_snapshot(network: Network) -> Snapshot:
    """A whole network."""
    return join({"structure": structure_snapshot(network), "weights": Snapshot(network.module.state_dict())})


def restored_structure(snapshot: Snapshot) -> Network:
    """A network like the one that `structure_snapshot` was made of, its weights drawn at random; in evaluation mode.

    Raises UnusableCheckpoint.
    """
    stored = snapshot.read(StoredNetwork)
    try:
        module = rebuild(stored.description).eval()
        tensors = {name: tensor.clone() for name, tensor in snapshot.tensors.items()}
        return Network(
            module,
            stored.description,
            {name: tensors[f"mask/{name}"] for name in stored.masked},
            {name: Grid(tensors[f"levels/{name}"], tensors[f"scales/{name}"]) for name in stored.quantized},
        )
    except (InvalidModel, KeyError) as error:
        raise UnusableCheckpoint(f"its network cannot be built ({str(error)[:200]})") from error


def restored_network(snapshot: Snapshot) -> Network:
    """The network that `network_snapshot` was made of, in evaluation mode, on the CPU. Raises UnusableCheckpoint."""
    network = restored_structure(part_of(snapshot, "structure"))
    try:
        load_weights(network.module, part_of(snapshot, "weights").tensors, "the network that it describes")
    except InvalidModel as error:
        raise UnusableCheckpoint(error.message) from error
    return network
