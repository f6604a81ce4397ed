"""The fixed words of a report."""

from app.spec.devices import Provenance
from app.spec.report import TargetStatus, Verdict

VERDICTS: dict[Verdict, str] = {
    "improved": "Improved",
    "unchanged": "Unchanged",
    "unproven": "Unproven",
    "regressed": "Regressed",
    "unusable": "Unusable",
}

HEADLINES: dict[Verdict, str] = {
    "improved": "There is a gain beyond the noise, and no loss that outweighs it.",
    "unchanged": "No difference goes beyond the noise, and nothing was lost.",
    "unproven": "The rows cannot exclude a loss that no gain is worth: more test rows would tell.",
    "regressed": "Something was lost that no gain outweighs.",
    "unusable": "Do not deploy this: a limit was missed, or the outputs are broken.",
}

STATUSES: dict[TargetStatus, str] = {
    "executed": "",
    "converted": "converted, not executed: its own runtime is on no worker",
    "planned": "planned, not built: the target's own compiler builds it from this file",
}
"""What a target's line says beside the verdict; nothing where its own runtime ran it."""

NO_STEPS = "None: the model was exported as it is."
GIVEN = "None: artifacts of earlier jobs were evaluated as they are."
"""In place of steps."""

GRAPHS: dict[TargetStatus, str] = {
    "executed": "The graph as the runtime executes it on this machine",
    "converted": "The graph of the file",
    "planned": "The graph of the file, from which the target's compiler makes its own",
}
"""What the operators are counted in."""

PROVENANCE: dict[Provenance, str] = {
    "measured": "taken on the machine below",
    "emulated": "taken on an emulated device: exact outputs, no real time",
    "estimated": "computed from other measurements",
}

HOW_TO_READ: dict[str, str] = {
    "Noise": (
        "Both models are timed in one process, taking turns in random order. The interval holds the true ratio of "
        "the medians 95 times in 100; it is resampled in blocks, so a load that comes and goes widens it. An interval "
        "that contains 1.00 shows no difference, and none is claimed."
    ),
    "Resolution": (
        "A metric on n rows moves in steps of 1/n. The interval of its change comes from the rows on which the two "
        "models differ (a score interval, bounded by the exact test); where it contains zero, the rows are too few "
        "to tell. No differing row does not mean no difference: n rows can hide about 3/n."
    ),
    "Signal to noise": (
        "The power of the original's values over the power of the error, in decibels. 20 dB is an error of 1 % of the "
        "power, 40 dB of 0.01 %. Layers are compared with all quantization before them included."
    ),
    "Placement": (
        "Which kernels the runtime really executes on this machine, read from the graph it optimized. A quantized file "
        "whose products stay in floating point is smaller, but not faster."
    ),
    "Same answer": (
        "The share of rows, tokens or pixels for which both models give their highest score to the same class; of "
        "outputs that are integers, of values that are equal. The interval counts rows: tokens of one text fail "
        "together. Outputs that are no scores (boxes, embeddings, regressions) have no answers: signal to noise "
        "judges them."
    ),
}
