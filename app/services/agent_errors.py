"""What can go wrong between the service, a job and a device agent."""

from app.errors import PareError


class AgentUnauthorized(PareError):
    """The credential is missing, unknown, or belongs to an agent that was revoked."""

    code, status = "agent.unauthorized", 401
    remedy = "Send the credential that enrolling answered; enrol again with a new token if it is lost or revoked."


class TokenRefused(PareError):
    """The enrolment token is unknown, was used before, or has expired."""

    code, status = "agent.token_refused", 403
    remedy = "Have a new token made with `POST /agents/tokens`; each enrols one agent, once."


class TaskGone(PareError):
    """The task is no longer this attempt's: the lease ran out, or the job that wanted it has ended."""

    code, status = "agent.task_gone", 409
    remedy = "Stop working on it and poll for the next task."


class OutputsMissing(PareError):
    """A result names outputs that were not sent."""

    code, status = "agent.outputs_missing", 422
    remedy = "PUT the file to `/agents/self/tasks/{id}/outputs` first, then report its SHA-256."


class AgentUnfit(PareError):
    """The agent has no runtime for any of the job's targets."""

    code, status = "agent.unfit", 422
    remedy = "Install a runtime on the device (pare-agent[onnx], pare-agent[litert]), or choose a target it can run."


class AgentLost(PareError):
    """The device stopped answering in the middle of the task, as often as is allowed."""

    code, status = "agent.lost", 500
    remedy = "Look at the device: its power, its network, its memory (`journalctl -u pare-agent`); then retry the job."


class AgentUnreachable(PareError):
    """The device did not take the task in time."""

    code, status = "agent.unreachable", 503
    remedy = (
        "See that `pare-agent run` is at work there and reaches the service; PARE_AGENT_WAIT_S is how long jobs wait."
    )


class AgentRevoked(PareError):
    """The agent was revoked while a job waited for it."""

    code, status = "agent.revoked", 409
    remedy = "Enrol the device again, or leave it out of the job."


class AgentFailed(PareError):
    """The artifact could not be loaded or run on the device."""

    code, status = "agent.failed", 422
    remedy = "Compare the runtime's version there with the worker's; the detail has the runtime's own words."


class AgentOutOfMemory(PareError):
    """The model needs more memory than the device, or its agent, allows."""

    code, status = "agent.out_of_memory", 422
    remedy = "Use a smaller batch in `evaluate.latency`, or raise the agent's --memory-mib."


class AgentTimedOut(PareError):
    """The device did not finish within the task's time."""

    code, status = "agent.timed_out", 422
    remedy = "Ask for fewer runs or a smaller batch in `evaluate.latency`, or raise the job's `timeout_s`."


class AgentFileRefused(PareError):
    """A file that reached the device is not the one that was announced: its digest or size differs."""

    code, status = "agent.file_refused", 502
    remedy = "Retry the job; if it recurs, the operator checks storage and any proxy between it and the device."


REPORTED: dict[str, type[PareError]] = {
    error.code: error for error in (AgentFailed, AgentOutOfMemory, AgentTimedOut, AgentFileRefused)
}
"""What an agent may say of itself."""
