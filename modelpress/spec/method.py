"""The methods there are: the facts about each kind of step that are checked before any work starts."""

from __future__ import annotations

from pydantic import Field, JsonValue

from modelpress.spec.config import Resource
from modelpress.spec.steps import Distill, Factorize, Finetune, Prune, PruneChannels, Quantize


class Method(Resource):
    """One entry of `GET /v1/methods`."""

    kind: str
    summary: str = Field(description="What it does, in a sentence.")
    source: str = Field(description="The paper it follows.")
    needs_data: bool = Field(description="True when it cannot be done without a data set; a training always needs one.")
    parameters: dict[str, JsonValue] = Field(description="JSON Schema of the step.")
    example: dict[str, JsonValue] = Field(description="A step that is valid as it stands.")


METHODS: dict[str, Method] = {
    "prune": Method(
        kind="prune",
        summary="Set the least important weights to zero, at once, gradually, or with regrowth during training.",
        source="Zhu and Gupta 2017, arXiv 1710.01878; Molchanov et al. 2019, arXiv 1906.10771; Evci et al. 2020, "
        "arXiv 1911.11134; Lee et al. 2021, arXiv 2010.07611; Sanh et al. 2020, arXiv 2005.07683",
        needs_data=False,
        parameters=Prune.model_json_schema(),
        example={
            "kind": "prune",
            "sparsity": 0.75,
            "schedule": {"kind": "cubic", "begin": 0.0, "end": 0.75},
            "training": {"epochs": 10, "learning_rate": 0.01, "teacher": "original"},
        },
    ),
    "prune_channels": Method(
        kind="prune_channels",
        summary="Take the least important channels out, so that layers become smaller and faster everywhere.",
        source="Li et al. 2017, arXiv 1608.08710; Liu et al. 2017, 1708.06519; He et al. 2019, 1811.00250; "
        "Molchanov et al. 2019, 1906.10771; Theis et al. 2018, 1801.05787; Fang et al. 2023, 2301.12900",
        needs_data=False,
        parameters=PruneChannels.model_json_schema(),
        example={
            "kind": "prune_channels",
            "target": {"kind": "macs", "removed": 0.5},
            "round_to": 8,
            "training": {"epochs": 10, "learning_rate": 0.01, "teacher": "original"},
        },
    ),
    "factorize": Method(
        kind="factorize",
        summary="Replace layers by thinner ones in a row, by SVD, Tucker-2 or CP.",
        source="Tai et al. 2015, arXiv 1511.06067; Kim et al. 2016, 1511.06530; Lebedev et al. 2015, 1412.6553",
        needs_data=False,
        parameters=Factorize.model_json_schema(),
        example={
            "kind": "factorize",
            "rank": {"kind": "energy", "value": 0.9},
            "training": {"epochs": 5, "learning_rate": 0.01},
        },
    ),
    "distill": Method(
        kind="distill",
        summary="Train another, smaller network to give the original's outputs.",
        source="Hinton et al. 2015, arXiv 1503.02531; Zhao et al. 2022, arXiv 2203.08679",
        needs_data=True,
        parameters=Distill.model_json_schema(),
        example={
            "kind": "distill",
            "student": {"architecture": "nin_cifar"},
            "temperature": 4.0,
            "alpha": 0.9,
            "training": {"epochs": 30, "learning_rate": 0.05},
        },
    ),
    "quantize": Method(
        kind="quantize",
        summary="Give the weights few values, which take few bits; with training they learn to live with it.",
        source="Han et al. 2016, arXiv 1510.00149; Krishnamoorthi 2018, arXiv 1806.08342",
        needs_data=False,
        parameters=Quantize.model_json_schema(),
        example={
            "kind": "quantize",
            "bits": 4,
            "first_and_last_bits": 8,
            "training": {"epochs": 5, "learning_rate": 0.001, "teacher": "original"},
        },
    ),
    "finetune": Method(
        kind="finetune",
        summary="Train the network as it is; weights pruned before stay zero.",
        source="SlimNets 2018, arXiv 1808.00496",
        needs_data=True,
        parameters=Finetune.model_json_schema(),
        example={"kind": "finetune", "training": {"epochs": 5, "learning_rate": 0.01}},
    ),
}
