from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelpress.engine.network import Network
from modelpress.engine.prune.pattern import input_dimension, inputs_of, keep_pattern
from modelpress.engine.prune.step import prune
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import LayerSelection, Pattern, Prune
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.tiny import tiny_network

TWO_OF_FOUR = Pattern(n=2, m=4)
STEP = Prune.model_validate({"pattern": {"n": 2, "m": 4}})


def all_kept(score: Tensor) -> Tensor:
    return torch.ones_like(score, dtype=torch.bool)


def nonzero_of_each(weight: Tensor, dimension: int, m: int) -> set[int]:
    """Counts of the weights that are not zero in the groups, in plain numpy."""
    lines = np.moveaxis(weight.detach().numpy(), dimension, -1)
    return {
        int((group != 0).sum())
        for line in lines.reshape(-1, lines.shape[-1])
        for group in np.split(line, len(line) // m)
    }


def test_the_docstring_by_hand():
    score = torch.tensor([[3.0, 1.0, 2.0, 4.0, 5.0, 8.0, 7.0, 6.0]])
    assert (score * keep_pattern(score, TWO_OF_FOUR, all_kept(score), 1)).tolist() == [[3, 0, 0, 4, 0, 8, 7, 0]]


def test_ties_and_what_was_removed_before_by_hand():
    score = torch.tensor([[1.0, 1.0, 1.0, 1.0, 9.0, 8.0, 7.0, 6.0]])
    kept = torch.tensor([[True, True, True, True, False, False, False, True]])
    found = keep_pattern(score, TWO_OF_FOUR, kept, 1)
    assert found.tolist() == [[False, False, True, True, False, False, False, True]]


def test_kernels_are_grouped_along_their_input_channels():
    """One output, four inputs of 1 x 2 pixels: the two pixels choose apart."""
    score = torch.tensor([[4.0, 1.0], [3.0, 2.0], [2.0, 3.0], [1.0, 4.0]]).view(1, 4, 1, 2)
    found = keep_pattern(score, TWO_OF_FOUR, all_kept(score), 1).view(4, 2)
    assert found.tolist() == [[True, False], [True, False], [False, True], [False, True]]


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(2, 6), data=st.data(), groups=st.integers(1, 3), outputs=st.integers(1, 3), kernel=st.integers(1, 2)
)
def test_against_a_stable_sort_of_each_group(m: int, data: st.DataObject, groups: int, outputs: int, kernel: int):
    n = data.draw(st.integers(1, m - 1))
    length = outputs * groups * m * kernel
    values = data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length))
    score = torch.tensor(values, dtype=torch.float32).view(outputs, groups * m, kernel, 1)
    found = keep_pattern(score, Pattern(n=n, m=m), all_kept(score), 1).numpy()
    for output in range(outputs):
        for pixel in range(kernel):
            for first in range(0, groups * m, m):
                expected = np.ones(m, dtype=bool)
                expected[np.argsort(score[output, first : first + m, pixel, 0].numpy(), kind="stable")[: m - n]] = False
                np.testing.assert_array_equal(found[output, first : first + m, pixel, 0], expected)


@pytest.mark.parametrize(
    ("layer", "dimension", "inputs"),
    [
        (nn.Linear(6, 2), 1, 6),
        (nn.Conv2d(8, 4, 3, groups=2), 1, 4),
        (nn.Conv2d(8, 8, 3, groups=8), 1, 1),
        (nn.ConvTranspose2d(8, 4, 3), 0, 8),
        (nn.ConvTranspose2d(8, 4, 3, groups=2), 0, 4),
    ],
)
def test_where_the_inputs_lie(layer: nn.Module, dimension: int, inputs: int):
    assert (input_dimension(layer), inputs_of(layer)) == (dimension, inputs)


@pytest.mark.parametrize("criterion", ["magnitude", "random", "taylor"])
def test_two_of_four_through_the_step_and_a_training(criterion: str):
    network = tiny_network(classes=3)
    spec = {"pattern": {"n": 2, "m": 4}, "criterion": criterion, "training": Recovery(epochs=1, batch_size=8)}
    result = prune(network, Prune.model_validate(spec), context(network, noise()))
    for name in ("3", "7", "9"):
        assert nonzero_of_each(result.network.module.get_parameter(f"{name}.weight"), 1, 4) == {2}
    assert bool((result.network.module.get_parameter("0.weight") != 0).all())
    assert [change.name for change in result.layers] == ["3", "7", "9"]
    assert [(skip.name, skip.reason) for skip in result.skipped] == [
        ("0", "each of its outputs sees 1 inputs, no multiple of the pattern's 4")
    ]
    assert set(result.network.masks) == {"3.weight", "7.weight", "9.weight"}


def test_a_transposed_convolution():
    network = tiny_network()
    layer = nn.ConvTranspose2d(8, 3, 2)
    wrapped = Network(nn.Sequential(layer), network.description)
    result = prune(wrapped, STEP, context(wrapped)).network
    assert nonzero_of_each(result.module.get_parameter("0.weight"), 0, 4) == {2}


def test_on_top_of_single_weights():
    network = tiny_network()
    once = prune(network, Prune(sparsity=0.6), context(network)).network
    twice = prune(once, STEP, context(once)).network
    for name in ("3.weight", "7.weight", "9.weight"):
        assert not bool((twice.masks[name] & ~once.masks[name]).any())
        assert max(nonzero_of_each(twice.module.get_parameter(name), 1, 4)) == 2
    assert torch.equal(twice.masks["0.weight"], once.masks["0.weight"])


def test_no_layer_fits():
    network = tiny_network()
    step = STEP.model_copy(update={"layers": LayerSelection(include=("0",))})
    with pytest.raises(IncompatibleSpec, match="multiple of 4, which the pattern 2:4 needs"):
        prune(network, step, context(network))
