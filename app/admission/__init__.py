"""Decides whether an upload is fit to be loaded, and says what is inside, without loading it.

Nothing here imports torch or onnx, unpickles, or evaluates text. Files are judged by content; memory does not grow
with the size of the file.
"""

from app.admission.dataset import admit_dataset
from app.admission.errors import AdmissionError
from app.admission.model import admit_model

__all__ = ["AdmissionError", "admit_dataset", "admit_model"]
