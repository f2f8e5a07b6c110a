"""What a run came to over its seeds, and the figures that tables and plots show of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.slimnets.finished import Finished
from benchmarks.slimnets.runs import Run
from modelpress.spec.report import Report


@dataclass(frozen=True)
class Figure:
    """Mean over seeds, and their standard deviation where there are several."""

    mean: float
    spread: float | None = None

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Of one or more values."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Outcome:
    """A run that has finished, for each seed that has."""

    run: Run
    finished: tuple[Finished, ...]  # on the final data, one a seed
    chosen: str | None = None  # of several candidates
    tried: tuple[Finished, ...] = ()  # the candidates on the tuning data

    @property
    def candidate(self) -> str:
        """The one that the figures are of."""
        return self.chosen or next(iter(self.run.candidates))

    @property
    def reports(self) -> list[Report]:
        """One a seed."""
        return [one.report for one in self.finished]

    @property
    def machines(self) -> list[str]:
        """Where it was measured, in words."""
        return list(dict.fromkeys(map(machine_in_words, self.reports)))

    @property
    def top1(self) -> Figure:
        """Of the result, on the test images."""
        return Figure.of([one.top1 for one in self.finished])

    @property
    def original_top1(self) -> float:
        """Of the original, on the same images."""
        accuracy = self.reports[0].baseline.accuracy
        assert accuracy is not None  # every job has a data set
        return accuracy.top1

    @property
    def retention(self) -> Figure:
        """Share of the original's accuracy."""
        return Figure.of([one.top1 / self.original_top1 for one in self.finished])

    @property
    def ratio(self) -> Figure:
        """fp32 bytes of the original over bytes of the smallest file."""
        return Figure.of([report.ratios.stored_bytes for report in self.reports])

    @property
    def stored_bytes(self) -> Figure:
        """Of the smallest file."""
        return Figure.of([one.stored_bytes for one in self.finished])

    @property
    def nonzero(self) -> Figure:
        """Parameters that are not zero."""
        return Figure.of([float(report.final.nonzero_parameters) for report in self.reports])

    @property
    def latency_ms(self) -> Figure | None:
        """Median of one image, one thread, ONNX Runtime, fp32."""
        timed = [latency.p50_ms for report in self.reports if (latency := report.final.latency_in()) is not None]
        return Figure.of(timed) if timed else None

    @property
    def speed_up(self) -> Figure | None:
        """Of the original over the result, in ONNX Runtime."""
        ratios = [report.ratios.latency for report in self.reports if report.ratios.latency is not None]
        return Figure.of(ratios) if ratios else None

    @property
    def in_8_bits(self) -> tuple[Figure, Figure] | None:
        """Speed-up and top-1 of the file that computes in 8 bits; None where there is none."""
        proofs = [proof for report in self.reports for proof in report.proofs if proof.kind == "onnx_int8"]
        speeds = [proof.ratios.latency for proof in proofs if proof.ratios and proof.ratios.latency is not None]
        top1 = [proof.accuracy.top1 for proof in proofs if proof.accuracy is not None]
        return (Figure.of(speeds), Figure.of(top1)) if speeds and top1 else None

    @property
    def epochs(self) -> str:
        """Passes over the images, of each step that trained: `60 + 20`."""
        trainings = [stage.training for stage in self.reports[0].stages if stage.training is not None]
        return " + ".join(f"{training.epochs * training.epoch_share:g}" for training in trainings) or "0"

    @property
    def minutes(self) -> float:
        """From the beginning to the report, of the longest seed, what another job did of its steps included."""
        return max(report.provenance.seconds + sum(reused_seconds(report).values()) for report in self.reports) / 60


def reused_seconds(report: Report) -> dict[tuple[str, int], float]:
    """What the steps took that another job did, by that job's id and their place."""
    return {(stage.reused_from, stage.index): stage.seconds for stage in report.stages if stage.reused_from is not None}


def machine_in_words(report: Report) -> str:
    """Processor or GPU of a report, torch, and what it computed in while it trained."""
    facts = report.provenance.machine
    parts = [f"{facts['processor']} with {facts['instructions']}" if "instructions" in facts else facts["processor"]]
    parts += [f"{facts['cores']} cores", facts.get("gpu"), f"torch {report.provenance.versions.get('torch', '?')}"]
    trained = {stage.training.precision for stage in report.stages if stage.training is not None}
    parts += [f"trained in {precision}" for precision in sorted(trained)]
    return ", ".join(str(part) for part in parts if part)
