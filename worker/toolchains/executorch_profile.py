"""What ExecuTorch's event tracer saw of one file, operator by operator."""

import re
import warnings
from typing import Any

from executorch.devtools import Inspector

FRAMES = ("OPERATOR_CALL", "DELEGATE_CALL", "Method::", "Program::")
"""Events that enclose those of operators."""
PORTABLE = "native_call_"
NUMBER = re.compile(r" #\d+$")


def operators(dump: str) -> list[dict[str, Any]]:
    """Name, engine and mean microseconds of every operator, in the order of execution."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses files that are not asked for
        blocks = Inspector(etdump_path=dump).event_blocks
    operators = []
    for block in blocks:
        for event in block.events:
            if event.name.startswith(FRAMES) or not event.perf_data or not event.perf_data.raw:
                continue
            portable = event.name.startswith(PORTABLE)
            if not portable and not event.is_delegated_op:
                continue
            name = event.name.removeprefix(PORTABLE).split(".")[0] if portable else NUMBER.sub("", event.name)
            microseconds = 1000 * sum(event.perf_data.raw) / len(event.perf_data.raw)
            engine = "portable" if portable else "XNNPACK"
            operators.append({"name": name, "engine": engine, "microseconds": max(0.0, microseconds)})
    return operators
