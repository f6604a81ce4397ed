"""How an attempt can end without the engine's own verdict: each class is one documented code."""

from app.errors import PareError


class WorkerError(PareError):
    """Anything that ends a job's process, or keeps it from starting."""

    status = 500


class Crashed(WorkerError):
    """The job's process ended without a result: it crashed in native code, or what it left is not valid."""

    code = "worker.crashed"
    remedy = "Read the job's log for the last lines before the crash; if the model runs elsewhere, report it as a bug."


class Unforeseen(WorkerError):
    """The engine met an error that has no code of its own; trying again would meet it again."""

    code = "worker.unforeseen"
    remedy = "Read the job's log for where it happened; if the model runs elsewhere, report it as a bug."


class Killed(WorkerError):
    """Something outside Pare ended the job's process, often the operating system when memory ran out."""

    code = "worker.killed"
    remedy = "Submit the job again; if it repeats, give the worker's machine or container more memory."


class OutOfMemory(WorkerError):
    """The job needed more memory than one job may use."""

    code = "worker.oom"
    remedy = "Use a smaller batch size or fewer calibration rows, or raise PARE_CHILD_MEMORY_BYTES."


class OutOfDisk(WorkerError):
    """The job wrote more to disk than one job may, or the worker's disk is full."""

    code = "worker.disk"
    remedy = "Deliver fewer targets per job, free disk space on the worker, or raise PARE_CHILD_DISK_BYTES."


class TimedOut(WorkerError):
    """The job did not finish in the time its `timeout_s` allows."""

    code = "worker.timeout"
    remedy = "Raise timeout_s, use fewer rows or epochs, or give the worker more threads (PARE_THREADS)."


class SandboxUnavailable(WorkerError):
    """PARE_SANDBOX is `require`, and this machine cannot confine a job's process in every way."""

    code = "worker.sandbox_unavailable"
    remedy = (
        "Run the worker on Linux 5.13 or newer with Landlock and seccomp enabled (in a container: without a profile "
        "that forbids them), or set PARE_SANDBOX=best-effort and accept only models you trust."
    )


class SandboxTooWeak(WorkerError):
    """Loading this model's format is only safe in a complete sandbox, and this worker's lacks a layer."""

    code = "worker.sandbox_too_weak"
    remedy = "Upload the model as ONNX, or run the worker on Linux 5.13 or newer; `/readyz` lists what each one lacks."


class DeviceUnavailable(WorkerError):
    """The worker serves the `cuda` queue, and its jobs could not use a CUDA device."""

    code = "worker.device_unavailable"
    remedy = "Check that nvidia-smi lists a device for the worker's user and that the CUDA build of torch is installed."


class NotStarted(WorkerError):
    """The process that prepares the numeric libraries for every job did not come up."""

    code = "worker.not_started"
    remedy = "Install the worker's libraries (pip install 'pare[worker]') and read the worker's own error output."


class AlreadyRunning(WorkerError):
    """An embedded service runs on this data directory already."""

    code = "worker.already_running"
    remedy = "Stop it first, or set PARE_DATA_DIR to another directory; several processes need a real broker."


class LocalJobInvalid(WorkerError):
    """The file given to `python -m worker run` does not describe a job."""

    code = "local.invalid"
    remedy = "Write the body of `POST /jobs` as JSON, with paths where it has ids; docs/command-line.md has an example."


class LocalFileMissing(WorkerError):
    """A file that `python -m worker run` is to read is not there."""

    code = "local.file_missing"
    remedy = "Paths in a job's description are relative to the description; correct the path."
