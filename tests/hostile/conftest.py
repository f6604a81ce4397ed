"""The corpus, written once per test run."""

from pathlib import Path

import pytest

from tests.support.hostile.corpus import HostileFile, write_corpus

Corpus = tuple[Path, list[HostileFile]]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The folder and the files in it."""
    directory = tmp_path_factory.mktemp("corpus") / "files"
    return directory, write_corpus(directory)
