"""Every way in which a recipe can fail to fit, and that one which fits has no misfit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modelpress.spec.check import check, factorize_ranks, select_layers
from modelpress.spec.inspection import DatasetInspection, LayerCall, LayerInspection
from modelpress.spec.job import Recipe
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Factorize, LayerSelection, RankBudget
from tests.support.inspections import inspection_of

NAMES = ["features.0", "features.3", "features.7", "classifier.1", "classifier.4"]
LAYERS = dict(zip(NAMES, ("Conv2d", "Conv2d", "Conv1d", "Linear", "Linear"), strict=True))
TRAINING = {"epochs": 1}


def _layer(name: str, full_rank: int | None) -> LayerInspection:
    return LayerInspection(
        name=name, type="Conv2d", weight_shape=(8, 4, 3, 3), parameters=296, prunable=True, full_rank=full_rank
    )


MODEL = inspection_of(_layer(name, None if name == "features.0" else 12) for name in NAMES)
DATASET = DatasetInspection(
    format="npz",
    classes=tuple("abcdefghij"),
    train_examples=100,
    heldout_examples=None,
    image_shape=(3, 32, 32),
    statistics=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
)


def _check(*steps: dict[str, Any], dataset: DatasetInspection | None = DATASET, **more: Any) -> list[tuple[str, str]]:
    recipe = Recipe.model_validate({"steps": steps, **more})
    return [(misfit.where, misfit.message) for misfit in check(recipe, MODEL, dataset)]


PRUNE = {"kind": "prune", "sparsity": 0.5}
FACTORIZE = {"kind": "factorize", "rank": {"kind": "number", "value": 12}}
DISTILL = {"kind": "distill", "student": {"architecture": "nin_cifar"}, "training": TRAINING}
FINETUNE = {"kind": "finetune", "training": TRAINING}


def test_an_8_bit_file_needs_images_to_calibrate_on() -> None:
    assert _check(PRUNE, artifacts=["compact", "onnx_int8"]) == []
    assert _check(PRUNE, artifacts=["compact", "onnx_int8"], dataset=None) == [
        ("artifacts", "onnx_int8 is calibrated on images; give `dataset`, or leave it out")
    ]


def test_a_goal_for_speed_needs_a_file_that_is_timed() -> None:
    with pytest.raises(ValidationError, match="ask for `onnx` or `onnx_int8`"):
        _check(PRUNE, artifacts=["compact"], goal={"min_speed_up": 2})
    assert _check(PRUNE, artifacts=["compact", "onnx"], goal={"min_speed_up": 2}) == []


def test_recipes_that_fit_have_no_misfit() -> None:
    assert _check(PRUNE, FACTORIZE, FINETUNE, DISTILL, PRUNE, goal={"min_accuracy_retention": 0.9}) == []
    assert _check(PRUNE, FACTORIZE, dataset=None) == []


@pytest.mark.parametrize(
    "step", [FINETUNE, DISTILL, {**PRUNE, "training": TRAINING}, {**FACTORIZE, "training": TRAINING}]
)
def test_training_needs_data(step: dict[str, Any]) -> None:
    ((where, message),) = _check(PRUNE, step, dataset=None)
    assert where == "steps.1"
    assert f"step `{step['kind']}` trains, which needs a data set" in message


def test_accuracy_as_a_goal_needs_data() -> None:
    ((where, message),) = _check(PRUNE, dataset=None, goal={"min_accuracy_retention": 0.9})
    assert where == "goal"
    assert "give `dataset` or drop the goal" in message
    assert _check(PRUNE, dataset=None, goal={"min_compression_ratio": 2}) == []


def test_images_of_another_size() -> None:
    ((where, message),) = _check(PRUNE, dataset=DATASET.model_copy(update={"image_shape": (1, 28, 28)}))
    assert where == "dataset"
    assert "its images are 1 x 28 x 28, the model takes 3 x 32 x 32" in message


def test_another_number_of_classes() -> None:
    ((where, message),) = _check(PRUNE, dataset=DATASET.model_copy(update={"classes": ("cat", "dog")}))
    assert where == "dataset"
    assert "it has 2 classes, the model has 10 outputs" in message


def test_a_student_that_does_not_exist() -> None:
    ((where, message),) = _check({**DISTILL, "student": {"architecture": "resnet1000"}})
    assert where == "steps.0.student.architecture"
    assert "there is no architecture 'resnet1000'" in message


def test_a_student_with_an_argument_that_it_does_not_take() -> None:
    ((where, message),) = _check(
        {**DISTILL, "student": {"architecture": "vgg11_cifar", "arguments": {"width": 0.5, "widht": 0.5}}}
    )
    assert where == "steps.0.student.arguments"
    assert message == "vgg11_cifar takes no argument widht; it takes num_classes, in_channels, width"


@pytest.mark.parametrize(
    ("argument", "needed", "words"), [("num_classes", 10, "10 outputs"), ("in_channels", 3, "3 input channels")]
)
def test_a_student_of_another_shape(argument: str, needed: int, words: str) -> None:
    def student(value: int) -> dict[str, Any]:
        return {**DISTILL, "student": {"architecture": "nin_cifar", "arguments": {argument: value}}}

    assert _check(student(needed)) == []
    ((where, message),) = _check(student(7))
    assert where == f"steps.0.student.arguments.{argument}"
    assert words in message


def test_a_layer_that_does_not_exist() -> None:
    ((where, message),) = _check({**PRUNE, "layers": {"include": ["features.*", "head"]}})
    assert where == "steps.0.layers"
    assert message == f"no layer matches 'head'; the layers are {', '.join(NAMES)}"


def test_a_rank_above_the_layers() -> None:
    misfits = _check({**FACTORIZE, "rank": {"kind": "number", "value": 13}, "layers": {"include": ["features.*"]}})
    # features.0 cannot be factorized, so it is none of the layers that the step treats.
    assert [where for where, _ in misfits] == ["steps.0.rank", "steps.0.rank"]
    assert misfits[0][1].startswith("rank 13 is above the full rank 12 of layer 'features.3'")
    assert "'features.7'" in misfits[1][1]


def test_the_full_rank_is_that_of_the_scheme() -> None:
    def check_rank(value: int) -> list[tuple[str, str]]:
        return _check({**FACTORIZE, "rank": {"kind": "number", "value": value}, "scheme": "channel_svd"})

    # Kernels (8, 4, 3, 3): the matrix is 36 x 8, by the default scheme 12 x 24.
    assert check_rank(8) == []
    assert check_rank(9)[0][1].startswith("rank 9 is above the full rank 8 of layer 'features.3'")


def test_a_budget_below_rank_one() -> None:
    def check_share(share: float) -> list[tuple[str, str]]:
        return _check({**FACTORIZE, "rank": {"kind": "budget", "parameters": share}})

    # Rank 1 keeps 12 + 24 of 288 weights in each of four layers: an eighth.
    assert check_share(0.125) == []
    ((where, message),) = check_share(0.124)
    assert where == "steps.0.rank"
    assert "keep 144 of 1152 weights; give at least 0.125" in message


def test_a_budget_is_of_one_thing() -> None:
    for shares in ({}, {"macs": 0.5, "parameters": 0.5}, {"macs": 0.5, "bytes": 0.5}):
        with pytest.raises(ValidationError, match="give exactly one of parameters, macs and bytes"):
            RankBudget.model_validate(shares)
    budget = RankBudget(bytes=0.25)
    assert (budget.currency, budget.share) == ("bytes", 0.25)


def test_a_budget_of_macs_or_bytes_below_rank_one() -> None:
    def messages(**share: float) -> list[str]:
        layers = tuple(
            # Half as wide as high behind its stride: the vertical half sees 4 x 8 places, the others 4 x 4.
            layer.model_copy(update={"calls": (LayerCall(input_size=(8, 8), output_size=(4, 4)),)} if known else {})
            for layer in MODEL.layers
        )
        model = MODEL.model_copy(update={"layers": layers})
        recipe = Recipe.model_validate({"steps": [{**FACTORIZE, "rank": {"kind": "budget", **share}}]})
        return [misfit.message for misfit in check(recipe, model, DATASET)]

    known = True
    # 12 * 32 + 24 * 16 of 288 * 16.
    assert messages(macs=0.167) == []
    assert "keep 3072 of 18432 multiply-accumulates; give at least 0.167" in messages(macs=0.166)[0]
    # Biases stay: 4 * (36 + 8) of 4 * 296.
    assert messages(bytes=0.149) == []
    assert "keep 704 of 4736 bytes; give at least 0.149" in messages(bytes=0.148)[0]
    known = False
    assert messages(macs=0.001) == []  # The engine will see.


def test_a_model_that_no_budget_can_make_cheaper() -> None:
    layers = (MODEL.layers[1].model_copy(update={"weight_shape": (1, 1, 3, 3), "full_rank": 3, "parameters": 9}),)
    recipe = Recipe.model_validate(
        {"steps": [{**FACTORIZE, "scheme": "channel_svd", "rank": {"kind": "budget", "parameters": 0.9}}]}
    )
    (misfit,) = check(recipe, MODEL.model_copy(update={"layers": layers}), DATASET)
    assert misfit.message.endswith("no pair is cheaper than its layer")


def test_grouped_layers_are_left_by_schemes_that_cannot_split_them() -> None:
    grouped = MODEL.layers[1].model_copy(update={"groups": 2})  # 8 outputs of 2 x 4 inputs, 3 x 3
    model = MODEL.model_copy(update={"layers": (grouped, *MODEL.layers[2:])})

    def messages(scheme: str, rank: int) -> list[str]:
        rank_of = {"kind": "per_layer", "values": {"features.3": rank}}
        recipe = Recipe.model_validate({"steps": [{**FACTORIZE, "scheme": scheme, "rank": rank_of}]})
        return [misfit.message for misfit in check(recipe, model, DATASET)]

    # Each group is a matrix of 36 x 4, or of 12 x 12.
    assert messages("channel_svd", 4) == []
    assert messages("channel_svd", 5)[0].startswith("rank 5 is above the full rank 4")
    assert messages("vertical_horizontal", 12) == []
    assert messages("vertical_horizontal", 13)[0].startswith("rank 13 is above the full rank 12")
    assert messages("tucker2", 1)[0].startswith("no layer features.3 that can be factorized")


def test_norms_between_need_a_convolution() -> None:
    linear = MODEL.layers[4].model_copy(update={"weight_shape": (8, 4), "full_rank": 4})
    model = MODEL.model_copy(update={"layers": (*MODEL.layers[:4], linear)})

    def places(include: str) -> list[str]:
        step = {"kind": "factorize", "rank": {"kind": "number", "value": 2}, "batch_norm": True}
        recipe = Recipe.model_validate({"steps": [{**step, "layers": {"include": [include]}}]})
        return [misfit.where for misfit in check(recipe, model, DATASET)]

    assert places("*") == []
    assert places("classifier.4") == ["steps.0.batch_norm"]


def test_what_cannot_be_whitened() -> None:
    whiten = {**FACTORIZE, "rank": {"kind": "ratio", "value": 0.5}, "whiten": True}
    assert _check({**whiten, "scheme": "channel_svd"}) == []
    ((where, message),) = _check(whiten)
    assert where == "steps.0.whiten"
    assert "exclude features.3" in message
    ((where, message),) = _check({**whiten, "scheme": "channel_svd"}, dataset=None)
    assert where == "steps.0.whiten"
    assert "needs a data set" in message


def test_a_rank_above_that_of_the_scheme() -> None:
    def messages(scheme: str, rank: int) -> list[str]:
        step = {**FACTORIZE, "scheme": scheme, "rank": {"kind": "per_layer", "values": {"features.3": rank}}}
        return [message for _, message in _check(step)]

    # A kernel of 8 x 4 x 3 x 3.
    assert messages("tucker2", 4) == []
    assert messages("tucker2", 5)[0].startswith("rank 5 is above the full rank 4")
    assert messages("cp", 36) == []
    assert messages("cp", 37)[0].startswith("rank 37 is above the full rank 36")


def test_a_rank_for_a_layer_that_cannot_be_factorized() -> None:
    ((where, message),) = _check({**FACTORIZE, "rank": {"kind": "per_layer", "values": {"features.0": 2}}})
    assert where == "steps.0.layers"
    assert message.startswith("no layer features.0 that can be factorized")


def test_layers_are_not_known_after_the_structure_changed() -> None:
    later = {**PRUNE, "layers": {"include": ["mlpconv.0"]}}
    assert _check(DISTILL, later) == []
    assert _check(FACTORIZE, later) == []
    assert [where for where, _ in _check(PRUNE, later)] == ["steps.1.layers"]


def test_all_misfits_come_at_once() -> None:
    misfits = _check(
        {**PRUNE, "layers": {"include": ["nowhere"]}},
        {**DISTILL, "student": {"architecture": "nothing"}},
        dataset=DATASET.model_copy(update={"classes": ("cat", "dog")}),
    )
    assert [where for where, _ in misfits] == ["dataset", "steps.0.layers", "steps.1.student.architecture"]


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        (("*",), (), NAMES),
        (("features.*",), (), NAMES[:3]),
        (("classifier.4", "features.0"), (), ["features.0", "classifier.4"]),
        (("*",), ("classifier.*", "features.3"), ["features.0", "features.7"]),
        (("features.[07]",), (), ["features.0", "features.7"]),
    ],
)
def test_selection(include: tuple[str, ...], exclude: tuple[str, ...], chosen: list[str]) -> None:
    assert select_layers(LAYERS, LayerSelection(include=include, exclude=exclude)) == chosen


@pytest.mark.parametrize(
    ("include", "exclude", "message"),
    [
        (("feature.*",), (), r"no layer matches 'feature\.\*'"),
        (("*",), ("head",), "no layer matches 'head'"),
        (("features.0",), ("features.*",), "`exclude` leaves no layer"),
        (("FEATURES.0",), (), "no layer matches 'FEATURES.0'"),
    ],
)
def test_selections_of_nothing(include: tuple[str, ...], exclude: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_layers(LAYERS, LayerSelection(include=include, exclude=exclude))


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ({"types": ["Linear"]}, NAMES[3:]),
        ({"types": ["Conv1d", "Linear"]}, NAMES[2:]),
        ({"types": ["Conv2d"], "exclude": ["re:features\\.0"]}, ["features.3"]),
        ({"types": ["Linear", "Conv2d"], "include": ["*.[47]", "features.3"]}, ["features.3", "classifier.4"]),
    ],
)
def test_selection_by_type(selection: dict[str, Any], chosen: list[str]) -> None:
    assert select_layers(LAYERS, LayerSelection.model_validate(selection)) == chosen


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"types": ["Linear", "Conv3d"]}, "no layer is of type Conv3d; the types are Conv2d, Conv1d, Linear"),
        ({"types": ["Linear"], "include": ["features.*"]}, "the patterns pick no layer of the `types`"),
        # A pattern that matches layers of another type only is no misspelt one.
        ({"types": ["Conv2d"], "exclude": ["classifer.*"]}, r"no layer matches 'classifer\.\*'"),
    ],
)
def test_selections_of_no_such_type(selection: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_layers(LAYERS, LayerSelection.model_validate(selection))


@pytest.mark.parametrize(
    "step",
    [
        PRUNE,
        FACTORIZE,
        {"kind": "quantize"},
        {"kind": "prune_channels", "target": {"kind": "macs", "removed": 0.5}},
    ],
    ids=lambda step: step["kind"],
)
def test_every_step_looks_at_the_types(step: dict[str, Any]) -> None:
    assert _check({**step, "layers": {"types": ["Conv2d"]}}) == []
    ((where, message),) = _check({**step, "layers": {"types": ["Linear"]}})
    assert (where, message) == ("steps.0.layers", "no layer is of type Linear; the types are Conv2d")


def test_long_lists_of_layers_are_cut() -> None:
    with pytest.raises(ValueError, match=r"layers are l0, .*, l11 and 88 more"):
        select_layers({f"l{index}": "Linear" for index in range(100)}, LayerSelection(include=("x",)))


def test_ranks_by_layer() -> None:
    def ranks(rank: dict[str, Any], **layers: Any) -> dict[str, int | None]:
        return factorize_ranks(Factorize.model_validate({"rank": rank, **layers}), LAYERS)

    assert ranks({"kind": "number", "value": 3}, layers={"include": ["classifier.*"]}) == dict.fromkeys(NAMES[3:], 3)
    assert ranks({"kind": "energy", "value": 0.9}) == dict.fromkeys(NAMES)
    assert ranks({"kind": "ratio", "value": 0.5}) == dict.fromkeys(NAMES)
    assert ranks({"kind": "per_layer", "values": {"features.3": 5, "classifier.1": 2}}) == {
        "features.3": 5,
        "classifier.1": 2,
    }


def test_ranks_of_layers_that_are_left_out() -> None:
    rank = {"kind": "per_layer", "values": {"features.3": 5}}
    step = Factorize.model_validate({"rank": rank, "layers": {"include": ["classifier.*"]}})
    with pytest.raises(ValueError, match=r"`rank\.values` names features\.3, which `layers` leaves out"):
        factorize_ranks(step, LAYERS)
