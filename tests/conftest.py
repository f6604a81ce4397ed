"""Settings every test process needs before a numeric library is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

pytest_plugins = ["tests.support.stack"]  # PostgreSQL, Redis and S3, started when a test asks for them
