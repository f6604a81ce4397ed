"""Where in a document a field is: RFC 6901 pointers from the locations that pydantic reports."""

from collections.abc import Sequence
from typing import Any


def pointer(location: Sequence[str | int], document: Any) -> str:
    """Write where a field of `document` is.

    pydantic also names the member of a union it tried; what the document does not hold is left out, but for the last
    part, which may be a missing field (if it is not the type by which a member was chosen).
    """
    path = []
    for position, part in enumerate(location):
        if isinstance(document, dict) and part in document:
            document = document[str(part)]
        elif isinstance(document, list) and isinstance(part, int) and part < len(document):
            document = document[part]
        elif position < len(location) - 1 or not isinstance(document, dict) or part in ("[key]", document.get("type")):
            continue
        path.append(str(part).replace("~", "~0").replace("/", "~1")[:100])
    return "".join(f"/{part}" for part in path)
