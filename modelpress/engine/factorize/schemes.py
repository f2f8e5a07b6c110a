"""The schemes by name: how each takes a layer apart."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from modelpress.engine.factorize.cp import CpSplit
from modelpress.engine.factorize.pair import PairSplit
from modelpress.engine.factorize.split import Split
from modelpress.engine.factorize.tucker import TuckerSplit
from modelpress.spec.check.split import Scheme

# A layer and the job's seed, for schemes whose factors start from drawn ones.
SCHEMES: dict[Scheme, Callable[[nn.Module, int], Split]] = {
    "svd": lambda layer, _seed: PairSplit("svd", layer),
    "vertical_horizontal": lambda layer, _seed: PairSplit("vertical_horizontal", layer),
    "channel_svd": lambda layer, _seed: PairSplit("channel_svd", layer),
    "tucker2": lambda layer, _seed: TuckerSplit(layer),
    "cp": CpSplit,
}
