"""Names that were given up for the field's word, and must not come back."""

import ast
import subprocess
from pathlib import Path

from tests.house.imports import REPOSITORY

RETIRED = {
    r"\b[Nn]ursery\b": "fork_server",
    r"\b[Ll]ifeline\b": "ChildHandle",
    r"\b[Vv]igil\b": "child_monitor, watch",
    r"\b[Pp]ulse\b": "heartbeat, renew_lease",
    r"\b[Cc]hore\b|\b[Dd]ut(y|ies)\b": "PeriodicTask, PeriodicRun, run_once",
    r"\b[Kk]eeper\b": "CheckpointUploader, TrainingCheckpoint",
    r"\bclearing\.|\boutlast\b": "delete_tree, retry",
    r"\bworkshop\b|\btoolroom\b": "JobSandbox, toolchain_host",
    r"\bknowing\b|\bKnowledge\b": "fingerprints, CompatibilityService",
    r"\b[Yy]ardstick\b": "ReferenceOutputs",
    r"\bstation\b|\b_?[Dd]esk\b": "worker_process, agent_proxy",
    r"\b(WORKS|MAKERS|LOOKS)\b": "JOB_KINDS",
    r"\bin_half\b|\bhas_halves\b": "to_float16, computes_in_float16",
    r"\bsave_flat\b|\btorch_program[./]flat\b": "save_fixed_shape, fixed_shape",
    r"\bdoomed\b": "pruned_mask",
    r"\bgrounds(_of)?\b": "decision_inputs",
    r"\bsite: ExportContext|\bdelivery: Exported|\borigin: ArtifactProvenance": "context, exported, provenance",
    r"\bplan: (Latency|Training)\b": "settings, config: a plan is a quantization plan",
    r"\bfrm\b": "source_state",
    r"\bclass Told\b|\bstories_told\b": "StoryResult, FuzzOutcome",
    r"\bfound_at\b": "matched_at",
    r"\bplain_failure\b|\breport\.text import .*\bplain\b": "escaped_failure, one_line",
    r"quantization[./]aware\b|\b[Ss]pared\b": "qat, keep_float",
    r"\bSee Store\b": "what this store does",
    r"\bqat[./]subject\b|\bsensitivity[./]subject\b": "qat_model, roundable_graph",
}
"""A regular expression of what is retired (Perl's dialect, as `git grep -P` reads it), and what it is called now."""

WHERE = ("*.py", "*.md", "*.toml", "*.sh", "*.html", "Makefile")
HISTORY = (":!CHANGELOG.md", ":!docs/decisions", ":!tests/house/names.py")
"""What tells of the past may use its words."""


def uses(retired: str, repository: Path = REPOSITORY) -> list[str]:
    """The lines (`path:number:text`) of tracked files that hold the retired name."""
    command = ["git", "grep", "-nP", "-e", retired, "--", *WHERE, *HISTORY]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    if ended.returncode > 1:
        raise RuntimeError(ended.stderr)
    return ended.stdout.splitlines()


UNTYPED = {"one", "found", "told"}
"""Variables that do not say what they hold."""
TYPED_IN = ("app", "worker", "agent", "bench", "docs", "docker", "examples", "tests/support")


def untyped(repository: Path = REPOSITORY) -> list[str]:
    """The places (`path:line name`) of variables and parameters that do not say their type, by the syntax tree."""
    files = (path for folder in TYPED_IN for path in sorted((repository / folder).rglob("*.py")))
    return [
        f"{path.relative_to(repository)}:{node.lineno} {name}"
        for path in files
        for node in ast.walk(ast.parse(path.read_bytes()))
        if (name := _bound(node)) in UNTYPED
    ]


def _bound(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    return node.arg if isinstance(node, ast.arg) else None
