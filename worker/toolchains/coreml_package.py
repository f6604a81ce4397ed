"""Writes a model package with plain files: coremltools' own writer sets modes of files, which the jail forbids.

Layout: a `Manifest.json` with an entry for each item, and the items below `Data/<author>/`, as coremltools writes it.
"""

import json
import shutil
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MANIFEST = "Manifest.json"


def copy_folder(folder: Path, into: Path) -> None:
    """Copy contents alone: `shutil.copytree` copies modes, too."""
    for path in folder.rglob("*"):
        if path.is_file():
            copy = into / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


class Package:
    """What coremltools asks of `libmodelpackage.ModelPackage`."""

    def __init__(self, path: str) -> None:
        """Opens the folder, or begins it."""
        self.folder = Path(path)
        self.manifest: dict[str, Any] = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {}}
        if (self.folder / MANIFEST).exists():
            self.manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))

    @staticmethod
    def isValid(path: str) -> bool:  # noqa: N802  # its name there
        """Whether a folder is a package."""
        return (Path(path) / MANIFEST).exists()

    def setRootModel(self, path: str, name: str, author: str, description: str) -> str:  # noqa: N802
        """Copy the program into the package."""
        self.manifest["rootModelIdentifier"] = self.addItem(path, name, author, description)
        self._write()
        return str(self.manifest["rootModelIdentifier"])

    def addItem(self, path: str, name: str, author: str, description: str) -> str:  # noqa: N802
        """Copy a file or a folder, such as that of the weights, into the package."""
        inside = f"{author}/{name}"
        into = self.folder / "Data" / inside
        into.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_dir():
            copy_folder(Path(path), into)
        else:
            shutil.copyfile(path, into)
        identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, inside)).upper()
        entry = {"author": author, "description": description, "name": name, "path": inside}
        self.manifest["itemInfoEntries"][identifier] = entry
        self._write()
        return identifier

    def getRootModel(self) -> Any:  # noqa: N802
        """The program; `path()` tells where it lies."""
        return self._item(self.manifest["rootModelIdentifier"])

    def findItemByNameAuthor(self, name: str, author: str) -> Any:  # noqa: N802
        """The path of the item with this name and author, or None."""
        entries = self.manifest["itemInfoEntries"].items()
        keys = [key for key, entry in entries if (entry["name"], entry["author"]) == (name, author)]
        return self._item(keys[0]) if keys else None

    def _item(self, identifier: str) -> Any:
        path = self.folder / "Data" / self.manifest["itemInfoEntries"][identifier]["path"]
        return SimpleNamespace(path=lambda: str(path))

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MANIFEST).write_text(json.dumps(self.manifest, indent=4), encoding="utf-8")
