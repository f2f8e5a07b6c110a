"""What can be asked for in the query of a request: fields with descriptions and bounds; an unknown one is an error."""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, field_validator, model_validator

from modelpress.spec.architecture import (
    ARCHITECTURES,
    MOST_ARGUMENT_CHARACTERS,
    ArchitectureRef,
    Family,
    check_arguments,
    unknown_arguments,
)
from modelpress.spec.config import Config
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.network import Interpolation, Preprocessing, read_resize
from modelpress.spec.state import JobState


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds the character U+0000, which cannot be stored; leave it out")
    return text


Name = Annotated[str, Field(max_length=200, description="A label of your own."), AfterValidator(_storable)]
Hash = Annotated[
    str | None,
    Field(
        description="SHA-256 of the file in hexadecimal: another body is refused, and nothing of it kept. The headers "
        "`X-Content-SHA256` and `Content-Digest` say the same.",
    ),
]


class ListQuery(Config):
    """A page of a list."""

    limit: int = Field(default=50, ge=1, le=200, description="Most entries on the page.")
    after: str | None = Field(
        default=None, max_length=100, description="`next` of the page before; leave out for the first."
    )


class ArchitectureListQuery(Config):
    """Which architectures."""

    family: Family | None = Field(default=None, description="Only those whose modules these people wrote.")


class JobListQuery(ListQuery):
    """A page of jobs."""

    state: JobState | None = Field(default=None, description="Only jobs in this state.")
    model: str | None = Field(default=None, max_length=100, description="Only jobs for the model with this id.")


class JobQuery(Config):
    """How a job is asked for."""

    wait: float = Field(
        default=0,
        ge=0,
        le=60,
        description="Seconds to wait for a change: of what `If-None-Match` names, or of the job as it is now.",
    )


class SubmitQuery(Config):
    """How a job is submitted."""

    dry_run: bool = Field(default=False, description="Only check whether it would be accepted.")


class EventsQuery(Config):
    """Where an event stream begins."""

    last_event_id: int = Field(
        default=0, ge=0, lt=2**31, description="Only events after this one; the header `Last-Event-ID` says the same."
    )


class DatasetUpload(Config):
    """What is said of an uploaded data set."""

    name: Name = ""
    sha256: Hash = None


class ModelUpload(Config):
    """What is said of an uploaded model."""

    architecture: str | None = Field(
        default=None,
        max_length=200,
        description="Name of the network that the weights belong to, from `GET /v1/architectures`. Left out for files "
        "that say it themselves: exported networks (.pt2, ONNX) and the artifacts of a job.",
        examples=["vgg19_bn_cifar"],
    )
    arguments: str = Field(
        default="{}",
        max_length=MOST_ARGUMENT_CHARACTERS,
        description="Arguments of the network as a JSON object; left out ones have their defaults.",
        examples=['{"num_classes": 10}'],
    )
    name: Name = ""
    format: ModelFormat | None = Field(
        default=None,
        description="Format of the file; seen from its content when left out, and refused when it differs.",
    )
    image_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Height and width of the images, pixels; the architecture's default when left out.",
        examples=[32],
    )
    mean: str | None = Field(
        default=None,
        max_length=1000,
        description="Mean that was subtracted from each channel of the pixels (scaled to 0..1) in training, with "
        "commas between. When `mean` and `std` are left out: those of the published weights, of timm's networks and of "
        "torchvision's with 1,000 classes; else estimated from the data set.",
        examples=["0.4914,0.4822,0.4465"],
    )
    std: str | None = Field(
        default=None,
        max_length=1000,
        description="Standard deviation that each channel was divided by in training, with commas between.",
        examples=["0.2470,0.2435,0.2616"],
    )
    resize: str | None = Field(
        default=None,
        max_length=10,
        description="How images of any size are brought to the input's: the shorter side is resized to so many pixels "
        "and the input cut out of the middle, or `stretch` for both sides resized. Only with `mean` and `std`; left "
        "out, images must have the input's size.",
        examples=["256"],
    )
    interpolation: Interpolation = Field(
        default="bilinear", description="How pixels between pixels are found when images are resized."
    )
    sha256: Hash = None

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in ARCHITECTURES:
            near = difflib.get_close_matches(value, ARCHITECTURES, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"there is no architecture {value[:100]!r}; {hint}`GET /v1/architectures` lists them")
        return value

    @field_validator("arguments")
    @classmethod
    def _fitting(cls, value: str, info: ValidationInfo) -> str:
        arguments = _json_object(value)
        check_arguments(arguments)
        architecture = ARCHITECTURES.get(info.data.get("architecture") or "")
        if architecture is not None:
            unknown, known = unknown_arguments(architecture, arguments)
            if unknown:
                raise ValueError(
                    f"{architecture.name} takes no argument {', '.join(sorted(unknown))}; it takes {', '.join(known)}"
                )
        return value

    @field_validator("mean", "std")
    @classmethod
    def _numbers(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            numbers = _numbers_of(value)
            if info.field_name == "std" and min(numbers) <= 0:
                raise ValueError("every standard deviation must be above 0")
        return value

    @field_validator("resize")
    @classmethod
    def _a_way_to_resize(cls, value: str | None) -> str | None:
        if value is not None:
            read_resize(value)
        return value

    @model_validator(mode="after")
    def _resize_beside_the_rest(self) -> ModelUpload:
        if self.resize is not None and self.mean is None:
            raise ValueError("`resize` is one part of the preprocessing: give `mean` and `std` with it")
        return self

    @model_validator(mode="after")
    def _arguments_of_something(self) -> ModelUpload:
        if self.architecture is None and _json_object(self.arguments):
            raise ValueError("`arguments` are those of an architecture: give `architecture` too, or leave them out")
        return self

    @model_validator(mode="after")
    def _both_of_one_length(self) -> ModelUpload:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both `mean` and `std`, or neither")
        if self.mean is not None and self.std is not None:
            counts = len(_numbers_of(self.mean)), len(_numbers_of(self.std))
            if counts[0] != counts[1]:
                raise ValueError(f"`mean` has {counts[0]} numbers, `std` has {counts[1]}; give one for each channel")
        return self

    @property
    def reference(self) -> ArchitectureRef | None:
        """The network that the weights belong to; None when it was not said."""
        if self.architecture is None:
            return None
        return ArchitectureRef(architecture=self.architecture, arguments=_json_object(self.arguments))

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What was done to the pixels in training; None when it was not said."""
        if self.mean is None or self.std is None:
            return None
        resize = None if self.resize is None else read_resize(self.resize, self.interpolation)
        return Preprocessing(mean=_numbers_of(self.mean), std=_numbers_of(self.std), resize=resize)


def _json_object(text: str) -> dict[str, JsonValue]:
    try:
        value: Any = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'it must be a JSON object such as {{"num_classes": 10}}, and is no JSON: {error}') from error
    if not isinstance(value, dict):
        raise ValueError('it must be a JSON object such as {"num_classes": 10}')
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _numbers_of(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError("it must be numbers with commas between, such as 0.49,0.48,0.44") from error
    if any(not abs(number) < 1e6 for number in numbers):
        raise ValueError("every number must lie between -1,000,000 and 1,000,000")
    return numbers
