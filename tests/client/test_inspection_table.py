"""The tables of an inspection."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from modelpress.client.inspection_table import estimates_table, layers_table, reasons_table, step_text, types_table
from modelpress.spec.inspection import Estimate, LeftAlone, ModelInspection, TypeFigures
from tests.support.uploads import model_inspection


def found() -> ModelInspection:
    outputs = LeftAlone(reason="its channels are the network's outputs", layers=("a", "b", "c"))
    channels = {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.25}}
    return model_inspection().model_copy(
        update={
            "layer_types": (
                TypeFigures(type="Conv2d", layers=2, parameters=2_872, macs=592_800),
                TypeFigures(type="ReLU", layers=3, parameters=0, macs=0),
            ),
            "estimates": (
                Estimate(steps=(channels,), stored_bytes=591_075, share=0.3569, left_alone=(outputs,)),
                Estimate(steps=(channels, {"kind": "quantize"}), stored_bytes=8, share=0.1, left_alone=(outputs,)),
                Estimate(
                    steps=({"kind": "of_a_newer_service"},), stored_bytes=None, share=None, misfit="it [is] sparse"
                ),
            ),
        }
    )


def rows(table: Table) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_types_and_the_whole() -> None:
    assert rows(types_table(found())) == [
        ["Conv2d", "2", "2.87 k", "593 k"],
        ["ReLU", "3", "0", "0"],
        ["all", "5", "414 k", "1.06 M"],
    ]


def test_what_an_older_version_did_not_say_of_a_layer_is_a_dash() -> None:
    assert rows(layers_table(found()))[0] == ["features.0", "Conv2d", "6 x 3 x 5 x 5", "456", "-", "15"]


def test_estimates_and_how_many_layers_stay() -> None:
    steps = "prune_channels(target=channels, removed=0.25)"
    assert rows(estimates_table(found())) == [
        [steps, "591 kB", "35.7%", "3"],
        [f"{steps} + quantize()", "8 B", "10%", "3"],
        ["of_a_newer_service()", "-", "-", "-"],
    ]


def test_each_reason_is_told_once() -> None:
    assert rows(reasons_table(found())) == [
        ["prune_channels(target=channels, removed=0.25)", "a, b and 1 more", "its channels are the network's outputs"],
        ["of_a_newer_service()", "all", "it [is] sparse"],
    ]


def test_a_step_in_a_line() -> None:
    step = {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.5}, "scheme": "channel_svd"}
    assert step_text(step) == "factorize(rank=ratio, value=0.5, scheme=channel_svd)"
