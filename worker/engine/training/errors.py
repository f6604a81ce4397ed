"""Why training was stopped."""

from worker.engine.errors import EngineError


class NanLoss(EngineError):
    """While training, the loss became infinite or not a number."""

    code = "train.nan_loss"
    remedy = "Lower the learning rate, set clip_norm (1.0), warm up, and check the data for values that are not finite."
