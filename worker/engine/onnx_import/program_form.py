"""What an ONNX file became as a program: made once, shared by whoever holds the model."""

from pathlib import Path

import torch

from app.spec.signature import Signature
from worker.engine.torch_program.program import Program


class ProgramForm:
    """The program of one file; empty until it is asked for."""

    def __init__(self) -> None:
        """Nothing is imported yet."""
        self._made: Program | None = None

    def of(self, path: Path, signature: Signature) -> Program:
        """The program of the file, whichever model asks first. Raises what `import_onnx` raises."""
        if self._made is None:
            # Imported here: torch.export takes a second that a job which stays ONNX can do without.
            from worker.engine.onnx_import.importing import import_onnx

            self._made = import_onnx(path, signature, threads=torch.get_num_threads())
        return self._made
