"""Keeps the machine's folders out of what users read."""

import re
import sys
import tempfile
from pathlib import Path


class Scrubber:
    """Replaces known folders by what they mean; a path that only the user's model knows stays (node names have `/`)."""

    def __init__(self, directory: Path) -> None:
        """Hide the paths of the job's folder, of this package and of Python."""
        ours = Path(__file__).resolve().parents[2]
        meanings = {
            str(directory): "<job>",
            str(directory.resolve()): "<job>",
            str(ours): "<pare>",
            sys.prefix: "<python>",
            sys.base_prefix: "<python>",
            str(Path(sys.prefix).resolve()): "<python>",
            str(Path.home()): "<home>",
            tempfile.gettempdir(): "<tmp>",
        }
        self._meanings = {folder: meaning for folder, meaning in meanings.items() if len(folder) > 1}
        longest_first = sorted(self._meanings, key=len, reverse=True)
        self._folders = re.compile("|".join(f"{re.escape(folder)}(?![A-Za-z0-9_-])" for folder in longest_first))

    def __call__(self, text: str) -> str:
        """The text without the folders."""
        return self._folders.sub(lambda match: self._meanings[match[0]], text)
