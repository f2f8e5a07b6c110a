"""Does a recipe fit a model and a data set? Asked by the API before a job is accepted, and by the engine.

Everything here works on inspections alone, without torch, so that a step that cannot apply is refused at once and
not after an hour.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from pydantic import Field

from modelpress.spec.architecture import ARCHITECTURES
from modelpress.spec.config import Resource
from modelpress.spec.inspection import DatasetInspection, LayerInspection, ModelInspection
from modelpress.spec.job import Recipe
from modelpress.spec.method import METHODS
from modelpress.spec.steps import Distill, Factorize, LayerSelection, Prune, RankNumber, RankPerLayer


class Misfit(Resource):
    """One thing that does not fit: where in the recipe (`steps.0.rank`), and what to do."""

    where: str = Field(description="Place in the recipe, such as `steps.0.rank`.")
    message: str = Field(description="What does not fit, and what to do.")


def select_layers(names: list[str], selection: LayerSelection) -> list[str]:
    """Names that a selection picks, in their order.

    Raises ValueError when a pattern matches none of the names: a misspelt layer is never skipped in silence.
    """
    for pattern in (*selection.include, *selection.exclude):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"no layer matches {pattern!r}; the layers are {_listed(names)}")
    chosen = [
        name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in selection.include)
        and not any(fnmatchcase(name, pattern) for pattern in selection.exclude)
    ]
    if not chosen:
        raise ValueError("`exclude` leaves no layer; narrow it")
    return chosen


def check(recipe: Recipe, model: ModelInspection, dataset: DatasetInspection | None) -> list[Misfit]:
    """Everything that keeps `recipe` from being carried out on this model and data set; empty when nothing does."""
    misfits = _data_misfits(model, dataset)
    layers: list[LayerInspection] | None = list(model.layers)
    for index, step in enumerate(recipe.steps):
        where = f"steps.{index}"
        if dataset is None and (METHODS[step.kind].needs_data or step.training is not None):
            misfits.append(
                Misfit(where=where, message=f"step `{step.kind}` trains, which needs a data set; give `dataset`")
            )
        # A student's layers are not known before it is built, nor a pair's once a layer was factorized: the engine
        # checks such steps when it comes to them.
        if isinstance(step, Distill):
            misfits += _student_misfits(step, model, where)
            layers = None
        elif isinstance(step, Prune) and layers is not None:
            misfits += _prune_misfits(step, layers, where)
        elif isinstance(step, Factorize):
            if layers is not None:
                misfits += _factorize_misfits(step, layers, where)
            layers = None
    if dataset is None and recipe.goal is not None and recipe.goal.min_accuracy_retention is not None:
        misfits.append(
            Misfit(
                where="goal", message="accuracy cannot be measured without a data set; give `dataset` or drop the goal"
            )
        )
    return misfits


def _data_misfits(model: ModelInspection, dataset: DatasetInspection | None) -> list[Misfit]:
    if dataset is None:
        return []
    misfits = []
    if dataset.image_shape != model.network.input_shape:
        misfits.append(
            Misfit(
                where="dataset",
                message=f"its images are {_shape(dataset.image_shape)}, the model takes "
                f"{_shape(model.network.input_shape)} (channels x height x width); resize the images, or upload the "
                "model with the right `image_size`",
            )
        )
    if len(dataset.classes) != model.num_classes:
        misfits.append(
            Misfit(
                where="dataset",
                message=f"it has {len(dataset.classes)} classes, the model has {model.num_classes} outputs; "
                "use the data set the model was trained for",
            )
        )
    return misfits


def _student_misfits(step: Distill, model: ModelInspection, where: str) -> list[Misfit]:
    name, arguments = step.student.architecture, step.student.arguments
    if name not in ARCHITECTURES:
        return [
            Misfit(
                where=f"{where}.student.architecture",
                message=f"there is no architecture {name!r}; `GET /v1/architectures` lists them",
            )
        ]
    misfits = []
    entry = ARCHITECTURES[name]
    unknown = [argument for argument in arguments if argument not in entry.arguments]
    if entry.family == "modelpress" and unknown:
        misfits.append(
            Misfit(
                where=f"{where}.student.arguments",
                message=f"{name} takes no argument {_listed(unknown)}; it takes {_listed(list(entry.arguments))}",
            )
        )
    for argument, needed, of in (
        ("num_classes", model.num_classes, "outputs"),
        ("in_channels", model.network.input_shape[0], "input channels"),
    ):
        if arguments.get(argument, needed) != needed:
            misfits.append(
                Misfit(
                    where=f"{where}.student.arguments.{argument}",
                    message=f"the student has to have the model's {needed} {of}; leave `{argument}` out",
                )
            )
    return misfits


def _prune_misfits(step: Prune, layers: list[LayerInspection], where: str) -> list[Misfit]:
    names = [layer.name for layer in layers if layer.prunable]
    try:
        select_layers(names, step.layers)
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    return []


def _factorize_misfits(step: Factorize, layers: list[LayerInspection], where: str) -> list[Misfit]:
    full_ranks = {layer.name: layer.full_rank for layer in layers if layer.full_rank is not None}
    try:
        wanted = factorize_ranks(step, list(full_ranks))
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    return [
        Misfit(
            where=f"{where}.rank",
            message=f"rank {rank} is above the full rank {full_ranks[name]} of layer {name!r}; "
            "lower it, exclude the layer, or use a `ratio`",
        )
        for name, rank in wanted.items()
        if rank is not None and rank > full_ranks[name]
    ]


def factorize_ranks(step: Factorize, names: list[str]) -> dict[str, int | None]:
    """Layers that a step treats, with the rank that the spec gives each (None where it follows from the weights).

    `names` are the layers that can be factorized. Raises ValueError when a name or a pattern matches none of them.
    """
    chosen = select_layers(names, step.layers)
    if isinstance(step.rank, RankPerLayer):
        unknown = [name for name in step.rank.values if name not in names]
        if unknown:
            raise ValueError(f"no layer {_listed(unknown)} that can be factorized; these can: {_listed(names)}")
        return {name: step.rank.values[name] for name in chosen if name in step.rank.values}
    rank = step.rank.value if isinstance(step.rank, RankNumber) else None
    return dict.fromkeys(chosen, rank)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _listed(names: list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
