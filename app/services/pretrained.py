"""Trained weights by their name, fetched from where torchvision publishes them, or from a mirror.

Only file names of the shipped table are asked for, from the one host in the settings; a redirect to elsewhere is not
followed. What arrives is bounded, compared with the digest in its name, and then admitted like any upload.
"""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.admission.architectures import network
from app.db.tables import Model
from app.services.errors import HubMismatch, HubUnreachable, UnknownWeights
from app.services.library import Arrival, Library
from app.settings import SPOOL_PREFIX, Settings
from app.spec.architecture import Architecture, NamedWeights

IDLE_SECONDS = 30
CHUNK_BYTES = 1 << 20
RENORMALISED = frozenset({"googlenet", "inception_v3"})
"""Their published weights expect pictures that the network itself renormalises."""


def published(architecture: Architecture) -> Mapping[str, str]:
    """The file of each of torchvision's weights of an architecture, by the name of the weights."""
    return network(architecture).weights


class Hub:
    """Fetches published weights and has them admitted."""

    def __init__(
        self,
        library: Library,
        settings: Settings,
        *,
        files: Callable[[Architecture], Mapping[str, str]] = published,
    ) -> None:
        self._library = library
        self._settings = settings
        self._files = files

    def add_model(self, tenant: str, wanted: NamedWeights, *, name: str, labels: Mapping[str, str]) -> Model:
        """Fetch weights, admit them and keep them as a model.

        Raises `UnknownWeights`, `HubUnreachable`, `HubMismatch`, and what `Library.add_model` raises.
        """
        files = self._files(wanted.architecture)
        file = files.get(wanted.weights)
        if file is None:
            raise UnknownWeights(
                f"{wanted.architecture.architecture} has no weights of this name.",
                pointer="/weights",
                remedy=f"It has {', '.join(files)}.",
            )
        self._settings.scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._settings.scratch, prefix=SPOOL_PREFIX) as folder:
            path = Path(folder) / "file"
            size, sha256 = self._download(file, path)
            announced = file.rpartition("-")[2].removesuffix(".pth")
            if not sha256.startswith(announced):
                raise HubMismatch(f"{file} arrived with the SHA-256 {sha256[:16]}, its name announces {announced}.")
            return self._library.add_model(tenant, Arrival(path, size, sha256, name, labels), _as_trained(wanted))

    def _download(self, file: str, path: Path) -> tuple[int, str]:
        base, most = self._settings.weights_url.rstrip("/"), self._settings.max_upload_bytes
        if not base:
            raise HubUnreachable("This service fetches no weights: PARE_WEIGHTS_URL is empty.")
        digest, size = hashlib.sha256(), 0
        try:
            with _open(f"{base}/{file}") as answer, path.open("wb") as spool:
                while chunk := answer.read(CHUNK_BYTES):
                    size += len(chunk)
                    if size > most:
                        raise HubMismatch(f"{file} has more than the {most} bytes that are allowed.")
                    digest.update(chunk)
                    spool.write(chunk)
        except urllib.error.HTTPError as error:
            raise HubUnreachable(f"The server of the weights answered {error.code} to {file}.") from error
        except (OSError, http.client.HTTPException) as error:
            raise HubUnreachable(f"The server of the weights does not answer: {type(error).__name__}.") from error
        return size, digest.hexdigest()


def _as_trained(wanted: NamedWeights) -> Architecture:
    """The architecture with the arguments that its published weights were made for, where none were given."""
    architecture = wanted.architecture
    if architecture.network in RENORMALISED and architecture.kwargs.transform_input is None:
        kwargs = architecture.kwargs.model_copy(update={"transform_input": True})
        return architecture.model_copy(update={"kwargs": kwargs})
    return architecture


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the error that it is here."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _open(url: str) -> http.client.HTTPResponse:
    # urllib, not httpx: the service's image has no HTTP client besides. It uses the proxy of the environment, if any.
    answer: http.client.HTTPResponse = urllib.request.build_opener(_StayHere).open(url, timeout=IDLE_SECONDS)
    return answer
