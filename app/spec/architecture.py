"""A network that is known by name, for weights that come without a graph and for students that start anew.

Nothing a caller writes is imported or evaluated: the name is looked up in a table that `app.admission.architectures`
ships, and only the arguments below are passed on.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.spec.base import Frozen

MAX_SIDE = 4096

ArchitectureName = Annotated[
    str, StringConstraints(pattern=r"^torchvision:[a-z0-9_]{1,60}$"), Field(examples=["torchvision:resnet50"])
]
TensorName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class ArchitectureArguments(Frozen):
    """Arguments of the architecture. Those left out keep torchvision's default; not every architecture has all."""

    num_classes: int = Field(1000, ge=1, le=100_000, description="Width of the last layer.")
    dropout: float | None = Field(None, ge=0, lt=1, description="Of the classifier, or of every block (ViT, Swin).")
    attention_dropout: float | None = Field(None, ge=0, lt=1, description="Of attention weights (ViT, Swin, MaxViT).")
    stochastic_depth_prob: float | None = Field(None, ge=0, lt=1, description="How often the last block is skipped.")
    transform_input: bool | None = Field(None, description="Renormalise pictures inside of the network (Inception).")


class ImageInput(Frozen):
    """The network's input, a batch of pictures of one size; `shape` is without the batch, which stays dynamic."""

    name: TensorName = "image"
    shape: tuple[Literal[3], Side, Side] = Field((3, 224, 224), description="Channels, height and width.")
    dtype: Literal["float32"] = "float32"


class Architecture(Frozen):
    """A network of torchvision: its name, arguments and input."""

    architecture: ArchitectureName
    kwargs: ArchitectureArguments = ArchitectureArguments()
    input: ImageInput = ImageInput()

    @property
    def network(self) -> str:
        """The name within torchvision, such as "resnet50"."""
        return self.architecture.partition(":")[2]


class NamedWeights(Frozen):
    """The JSON body of `POST /models`: a network with weights that torchvision publishes, to be fetched by name."""

    architecture: Architecture
    weights: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,60}$")] = Field(
        description='As torchvision names them, such as "IMAGENET1K_V2".'
    )
