"""Names of downloads."""

from urllib.parse import quote

LONGEST_NAME = 150


def attachment(file_name: str) -> str:
    """Return a Content-Disposition for any name: RFC 6266 with an ASCII fallback, nothing unquoted.

    Folders, control characters and quotes are the header's syntax or a trap for the client that saves the file, so
    they become `_`; the name is cut to 150 characters.
    """
    printable = "".join(c if c.isprintable() and c not in '/\\"%;' else "_" for c in file_name)[:LONGEST_NAME]
    printable = printable.encode("utf-8", "replace").decode().lstrip(". ") or "download"
    ascii_only = printable.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{ascii_only}\"; filename*=UTF-8''{quote(printable, safe='')}"
