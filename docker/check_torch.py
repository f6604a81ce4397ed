"""`check_torch.py [cpu|cuda]`: say which build of torch is installed; fail if it is not the one asked for."""

import sys

import torch

built_for = "cuda" if torch.version.cuda else "cpu"
wanted = sys.argv[1] if len(sys.argv) > 1 else built_for
if wanted not in ("cpu", "cuda"):
    sys.exit(f"TORCH={wanted} is not known: say cpu or cuda, or leave it out.")
if wanted != built_for:
    sys.exit(
        f"torch {torch.__version__} is a {built_for} build, and TORCH={wanted} was asked for. Remove the virtual "
        "environment and give TORCH_INDEX the package index that PyTorch's install page names for your platform."
    )
print(f"torch {torch.__version__} ({built_for})")
