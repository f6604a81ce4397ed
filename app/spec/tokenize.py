"""How columns of text become what a language model takes."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from app.spec.base import Frozen

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
TokenPart = Literal["ids", "mask", "types"]


class Tokenize(Frozen):
    """Encode text with the `tokenizer.json` beside the Parquet file: special tokens are added, all is of one length.

    The three arrays it makes are inputs like any other; those that a model does not have are not read.
    """

    text: tuple[ColumnName, ...] = Field(
        min_length=1, max_length=2, description="The column of text, or the two whose texts are encoded as a pair."
    )
    max_length: int = Field(
        128,
        ge=4,
        le=8192,
        description="Tokens of every sample, special ones included. Longer texts are cut, the longer of a pair first; "
        "shorter ones are padded.",
    )
    ids: ColumnName = Field("input_ids", description="The model's input that takes the tokens' numbers.")
    mask: ColumnName = Field("attention_mask", description="The input that is 1 at tokens and 0 at padding.")
    types: ColumnName = Field("token_type_ids", description="The input that tells the texts of a pair apart.")
    dtype: Literal["int64", "int32"] = Field("int64", description="What the model takes integers as.")
    pad_token: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="What fills short texts up. If it is not given: what tokenizer.json pads with, else its [PAD] or "
        "<pad>.",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> "Tokenize":
        if len({"y", *self.arrays()}) != 4:
            raise ValueError("ids, mask and types need three different names, none of them 'y'")
        if len(set(self.text)) != len(self.text):
            raise ValueError("a pair needs two columns")
        return self

    def arrays(self) -> dict[str, TokenPart]:
        """The arrays that this makes, each `[rows, max_length]`, and what each holds."""
        return {self.ids: "ids", self.mask: "mask", self.types: "types"}


class TokenizerInfo(Frozen):
    """What admission read of a `tokenizer.json`."""

    kind: Literal["WordPiece", "BPE", "Unigram", "WordLevel"]
    pad_token: str
