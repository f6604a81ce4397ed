"""Why rows cannot be read during a job: what readers of several formats raise."""

from worker.engine.errors import EngineError


class UnreadableData(EngineError):
    """The data set passed admission, but its rows could not be read during the job."""

    code = "data.unreadable"
    remedy = "Write the file again, with as many rows in every array and samples of one size after preprocessing."


class BrokenImage(EngineError):
    """A picture of the data set has a sound header, but its pixels are damaged or cut off."""

    code = "data.broken_image"
    remedy = "Open the picture named in the detail on your machine, replace or remove it, and upload the archive again."
