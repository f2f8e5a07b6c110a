"""The step `distill`: another network, built or uploaded, learns from the original."""

from __future__ import annotations

import copy

import torch

from modelpress.engine.architectures.registry import REJECTED, build
from modelpress.engine.distill.loss import distillation_loss
from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.network import Network
from modelpress.engine.recovery import asking_of, preprocessing_of, recover, teacher_of, training_data
from modelpress.engine.scores import logits_of
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.check.misfit import shape_of
from modelpress.spec.failure import IncompatibleSpec, InvalidModel
from modelpress.spec.network import NetworkDescription
from modelpress.spec.steps import Distill
from modelpress.spec.student import Current, Shallower, Student, Thinner, Uploaded, derived


def distill(network: Network, step: Distill, context: StepContext) -> StepResult:
    """Train the step's student to give the original's outputs; it takes the place of `network`.

    The student `current` is that network itself, whose masks and grids are held. An `uploaded` one begins with its own
    weights, all of them free, and keeps its own preprocessing.

    Raises IncompatibleSpec when the student cannot be built or was not given, has another number of outputs, cannot
    take the original's images, or lacks a layer that the loss names; and Diverged.
    """
    training_data(context)
    student = _student(network, step.student, context)
    with distillation_loss(
        step.chosen_loss,
        teacher_of(student, context),
        student.module,
        label_smoothing=step.training.label_smoothing,
        asking=asking_of(student, step.training, step.teacher_view, context),
    ) as loss:
        summary = recover(student, step.training, context, loss=loss)
    return StepResult(student, training=summary)


def _student(network: Network, wanted: Student, context: StepContext) -> Network:
    if isinstance(wanted, Current):
        return copy.deepcopy(network)
    if isinstance(wanted, Uploaded):
        return _uploaded_student(network, wanted, context)
    if isinstance(wanted, Thinner | Shallower):
        try:
            wanted = derived(context.original.description.architecture, wanted)
        except ValueError as error:
            raise IncompatibleSpec(f"`student`: {error}") from error
    return build_student(network.description, wanted, _outputs(network, "the network"), context)


def build_student(
    description: NetworkDescription, wanted: ArchitectureRef, outputs: int, context: StepContext
) -> Network:
    """The student at its initialisation, drawn by the seed alone; what `wanted` leaves open is the original's."""
    name = wanted.architecture
    if name not in ARCHITECTURES:
        raise IncompatibleSpec(f"there is no architecture {name!r}; `GET /v1/architectures` lists them")
    channels = description.input_shape[0]
    defaults = {"num_classes": outputs, "in_channels": channels, "in_chans": channels}  # the third is timm's
    taken = ARCHITECTURES[name].arguments
    arguments = {key: value for key, value in defaults.items() if key in taken} | wanted.arguments
    reference = ArchitectureRef(architecture=name, arguments=arguments)
    # Its own random state: the same student whatever steps came before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        try:
            module = build(reference)
        except InvalidModel as error:
            raise IncompatibleSpec(f"the student cannot be built: {error.message}") from error
    student = Network(
        module=module.eval(),
        description=NetworkDescription(
            architecture=reference,
            input_shape=description.input_shape,
            preprocessing=description.preprocessing,
            classes=description.classes,
        ),
    )
    student.description = student.description.model_copy(update={"preprocessing": preprocessing_of(student, context)})
    found = _outputs(student, f"the student {name!r}")
    if found != outputs:
        raise IncompatibleSpec(
            f"the student {name!r} has {found} outputs, the original {outputs}; set its `num_classes` to {outputs}, "
            "or leave it out"
        )
    return student


def _uploaded_student(network: Network, wanted: Uploaded, context: StepContext) -> Network:
    """A copy of the uploaded network; where its owner named no preprocessing, it has the original's."""
    uploaded, name = context.students.get(wanted.model), f"the student {wanted.model!r}"
    if uploaded is None:
        raise IncompatibleSpec(f"{name} was not given; `student.model` names an uploaded model")
    shape, taken = network.description.input_shape, uploaded.description.input_shape
    if taken != shape:
        raise IncompatibleSpec(
            f"{name} takes images of {shape_of(taken)}, the original of {shape_of(shape)} (channels x height x width)"
        )
    found, outputs = _outputs(uploaded, name), _outputs(network, "the network")
    if found != outputs:
        raise IncompatibleSpec(f"{name} has {found} outputs, the original {outputs}")
    student = copy.deepcopy(uploaded)
    student.masks, student.grids = {}, {}  # what the job that made it held; here they are weights like others
    student.description = uploaded.description.model_copy(
        update={
            "preprocessing": uploaded.description.preprocessing or preprocessing_of(context.original, context),
            "classes": network.description.classes,
        }
    )
    return student


def _outputs(network: Network, what: str) -> int:
    """Number of outputs, found by running the network on one black image of its input shape."""
    shape = network.description.input_shape
    module = network.module
    device = next(module.parameters(), torch.empty(0)).device
    training = module.training
    try:
        with torch.no_grad():
            logits = logits_of(module.eval(), torch.zeros(1, *shape, device=device))
    except REJECTED as error:
        size = shape_of(shape)
        ran_out = exhaustion(error, f"running {what} on one image of {size}")
        if ran_out is not None:
            raise ran_out from error
        raise IncompatibleSpec(
            f"{what} cannot take images of {size} (channels x height x width): {_first_line(error)}; "
            "choose one made for this size"
        ) from error
    finally:
        module.train(training)
    return int(logits.shape[1])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
