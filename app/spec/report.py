"""What was measured, before and after. Rendered by `app.report`; served as JSON as it stands.

Every section says where its figures come from: `measured` here, `emulated`, or `estimated`.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.spec.base import ArtifactId, Frozen, Sha256, renamed
from app.spec.device_report import DeviceRun
from app.spec.devices import Provenance
from app.spec.failure import Failure
from app.spec.figures import Distribution, MetricChange
from app.spec.outcome import Outcome, outcome_of
from app.spec.signature import ModelFormat
from app.spec.targets import Target

TargetStatus = Annotated[
    Literal["executed", "converted", "planned"],
    renamed({"converted, not executed": "converted", "planned, not built": "planned"}),
]
"""What became of an artifact: run by its own runtime, converted for one that is not here, or ready to be built."""
Verdict = Literal["improved", "unchanged", "unproven", "regressed", "unusable"]
"""`unchanged`: neither the size nor the speed differs by more than the noise, and nothing was lost. `unproven`: the
rows are too few, or of the wrong kind, to exclude a loss that no gain excuses."""

NOTICEABLE_SIZE = 0.01
"""Sizes that differ by less than this share are called equal: metadata alone differs by as much."""
NOTICEABLE_GROWTH = 0.02
NOTICEABLE_GROWTH_BYTES = 16 * 1024
"""Growth is a loss only beyond both: names and metadata of the export add as much to any model."""


MOST_POINTS = 2000
"""Of one chart or table: a report is read by people, and sent in one response."""


class Machine(Frozen):
    """Where the figures were taken."""

    cpu: str
    cpu_flags: tuple[str, ...] = Field(description="The instruction sets that decide which kernels run.")
    cores: int
    memory_bytes: int
    system: str
    versions: dict[str, str]
    device: Literal["cpu", "cuda"] = "cpu"


class Size(Frozen):
    """Bytes on disk of the model's deployable file, before and after."""

    before_bytes: int
    after_bytes: int
    provenance: Provenance = "measured"

    @property
    def ratio(self) -> float:
        """After / before."""
        return self.after_bytes / self.before_bytes

    @property
    def outcome(self) -> Outcome:
        """Whether it shrank or grew by more than metadata explains."""
        growth = self.after_bytes - self.before_bytes
        if self.ratio > 1 + NOTICEABLE_GROWTH and growth > NOTICEABLE_GROWTH_BYTES:
            return "loss"
        return "gain" if self.ratio < 1 - NOTICEABLE_SIZE else "noise"

    @property
    def called_equal(self) -> bool:
        """Whether both sizes are called the same; a little more than that is named, and still no loss."""
        return abs(self.ratio - 1) <= NOTICEABLE_SIZE


class LatencyChange(Frozen):
    """Both models in one process, taking turns. `speedup` is the ratio of the medians with its 95 % interval."""

    batch: int
    threads: int
    before: Distribution
    after: Distribution
    speedup: float
    speedup_low: float
    speedup_high: float
    load_average: tuple[float, float] = Field(description="1-minute load of the machine at the start and the end.")
    provenance: Provenance = "measured"

    @property
    def outcome(self) -> Outcome:
        """Whether the interval excludes a ratio of 1."""
        return outcome_of(self.speedup_low - 1, self.speedup_high - 1)


class OutputParity(Frozen):
    """How closely one output follows the original's on the same rows."""

    output: str
    rows: int
    sqnr_db: float | None = Field(description="10 log10(signal / error power); None where the outputs are equal.")
    sqnr_low_db: float | None = Field(None, description="The lower end of its 95 % interval; None as for `sqnr_db`.")
    cosine: float
    max_abs: float
    top1_agreement: float | None = Field(
        None,
        description="Share of answers that are the original's: the arg max over the classes, for each row, token or "
        "pixel; of integers, each value. None: the output holds no answers.",
    )
    agreement_low: float | None = Field(None, description="95 % interval of that share.")
    agreement_high: float | None = None
    class_axis: int | None = Field(None, description="The axis of the classes; None: the output is no scores.")
    answers: int | None = Field(None, description="How many answers were compared.")
    independent_answers: float | None = Field(
        None, description="How many independent ones they are worth: tokens of one row fail together."
    )
    non_finite: int = Field(0, description="Values that are NaN or infinite in one of the two models alone.")
    provenance: Provenance = "measured"


class LayerError(Frozen):
    """Signal to noise at the output of one layer, all quantization before it included."""

    name: str
    operator: str
    sqnr_db: float | None = Field(description="None where the values are equal.")


class OperatorTime(Frozen):
    """Time of one operator in one call of the model."""

    name: str = Field(max_length=200)
    engine: str = Field(max_length=50, description="Whose kernel it is, e.g. 'XNNPACK' or 'portable'.")
    microseconds: float = Field(ge=0)


class Profile(Frozen):
    """Where the time goes, by the runtime's own events: the mean of several calls, in the order of execution."""

    batch: int
    threads: int
    runs: int
    operators: tuple[OperatorTime, ...] = Field(max_length=MOST_POINTS)
    provenance: Provenance = "measured"


class Placement(Frozen):
    """What the runtime really executes, read from its optimized graph."""

    operators: dict[str, int]
    integer: int = Field(description="Compute nodes (convolutions and matrix products) with integer kernels.")
    floating: int = Field(description="Compute nodes left in floating point.")
    fallback: dict[str, int] | None = Field(
        None, description="Operators left to slower kernels than the rest of the file; None: the runtime does not tell."
    )


class Series(Frozen):
    """One line of a chart, or one set of bars; a None leaves a gap."""

    name: str
    values: tuple[float | None, ...] = Field(max_length=MOST_POINTS)


class Chart(Frozen):
    """A picture as data: every series has one value for each entry of `x`."""

    title: str
    kind: Literal["line", "bars"]
    x_label: str
    y_label: str
    x: tuple[float | str, ...] = Field(max_length=MOST_POINTS, description="Numbers, or names (of layers, say).")
    series: tuple[Series, ...] = Field(min_length=1, max_length=6)
    log_y: bool = False

    @model_validator(mode="after")
    def _series_fit(self) -> "Chart":
        for series in self.series:
            if len(series.values) != len(self.x):
                raise ValueError(f"series {series.name} has {len(series.values)} values for {len(self.x)} places")
        return self


Cell = str | int | float | bool | None


class Table(Frozen):
    """Figures by row: what a chart shows, or what no chart can."""

    title: str
    columns: tuple[str, ...] = Field(min_length=1, max_length=12)
    rows: tuple[tuple[Cell, ...], ...] = Field(max_length=MOST_POINTS)

    @model_validator(mode="after")
    def _rows_fit(self) -> "Table":
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row has another number of cells than the table has columns")
        return self


class StepReport(Frozen):
    """What one step did."""

    type: str
    seconds: float
    summary: str
    facts: dict[str, str | int | float | bool] = Field(default_factory=dict)
    charts: tuple[Chart, ...] = Field((), max_length=12)
    tables: tuple[Table, ...] = Field((), max_length=12)
    notes: tuple[str, ...] = Field((), description="What the reader must know to use the result.")


class ArtifactOrigin(Frozen):
    """The artifact that was given to be evaluated, and the job that delivered it."""

    artifact: ArtifactId
    job: str
    job_name: str


class TargetReport(Frozen):
    """One delivered artifact against the original; `status` says if its own runtime has run it."""

    target: Target
    status: TargetStatus = Field(
        "executed",
        description="'executed': its own runtime ran it. 'converted': that runtime exists on no worker. "
        "'planned': what is delivered is built where it will run.",
    )
    origin: ArtifactOrigin | None = Field(None, description="None: this job has made it.")
    runtime: str = Field(description="What ran it, with its version.")
    artifact: str = Field(description="File name of the artifact.")
    sha256: Sha256
    verdict: Verdict
    reasons: tuple[str, ...] = Field(description="The sentences behind the verdict.")
    missed_limits: tuple[str, ...] = ()
    size: Size
    metrics: tuple[MetricChange, ...] = ()
    latency: tuple[LatencyChange, ...] = ()
    parity: tuple[OutputParity, ...] = ()
    parity_data: Literal["test", "calibration", "synthetic"] = "test"
    placement: Placement
    layers: tuple[LayerError, ...] = ()
    profile: Profile | None = Field(None, description="Of the artifact; None: the runtime times no operators.")
    devices: tuple[DeviceRun, ...] = Field((), description="In the order of `evaluate.devices`.")
    notes: tuple[str, ...] = Field((), description="What was not measured, and why.")


class TargetFailure(Failure):
    """A target that was asked for and is not delivered; the others are not affected."""

    target: Target


class ModelSummary(Frozen):
    """The model that was given."""

    format: ModelFormat
    sha256: Sha256
    bytes: int
    parameters: int
    nodes: int


class Report(Frozen):
    """The whole story of a job."""

    version: Literal[1] = 1
    name: str
    job: str
    recipe_sha256: Sha256
    seed: int
    verdict: Verdict
    model: ModelSummary
    machine: Machine
    steps: tuple[StepReport, ...]
    targets: tuple[TargetReport, ...]
    failures: tuple[TargetFailure, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float
