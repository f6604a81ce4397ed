"""What an agent says, as it goes over the line."""

import hashlib

OUTPUTS = b"arrays"
FACTS = {
    "cpu": "Raspberry Pi 4 Model B Rev 1.4",
    "arch": "aarch64",
    "cpu_flags": ["asimd"],
    "cores": 4,
    "memory_bytes": 4 << 30,
    "system": "Linux 6.6 aarch64",
    "runtimes": {"onnxruntime": "1.31.1"},
    "python": "3.11.2",
    "version": "0.1.0",
}
ORDER = {
    "runtime": "onnxruntime",
    "timing": {"batch": 1, "threads": 1, "runs": 20, "budget_s": 1.0},
    "seed": 0,
    "deadline_s": 60.0,
}
MEASUREMENT = {
    "runtime": "ONNX Runtime 1.31.1",
    "facts": FACTS,
    "outputs_sha256": hashlib.sha256(OUTPUTS).hexdigest(),
    "load_ms": 12.5,
    "peak_memory_bytes": 90 << 20,
    "before_ns": [1000, 1100],
    "after_ns": [500, 600],
    "batch": 1,
    "threads": 1,
    "condition": {
        "temperature_c": 61.5,
        "throttled": False,
        "power_w": None,
        "frequency_mhz": 1500.0,
        "governor": "ondemand",
    },
    "notes": [],
}
