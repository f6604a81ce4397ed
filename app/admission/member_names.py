"""Names of archive members: what may be unpacked below a folder without leaving it."""

from app.admission.errors import AdmissionError


class UnsafeMember(AdmissionError):
    """An archive holds something other than plain files inside its own folder: a link, a device, a path that leaves."""

    code = "archive.unsafe_member"
    remedy = "Pack plain files with relative names, without links and without '..'."


MAX_NAME = 500


def require_safe_name(name: str, *, special: bool = False, dotted: bool = False, colons: bool = False) -> None:
    """Raise `UnsafeMember` unless `name` is relative, printable and stays inside; `special`: it is no plain file.

    `dotted` allows one "./" in front, and the folder "./" itself, as `tar cf archive.tar -C folder .` writes them.
    `colons` allows what looks like a drive ("input:0"), for names under which nothing is ever unpacked.
    """
    if dotted and name in {".", "./"} and not special:
        return
    if dotted:
        name = name.removeprefix("./")
    parts = name.removesuffix("/").split("/")
    if special:
        raise UnsafeMember(f"{name[:80]!r} is a link or a device.")
    drive = ":" in parts[0] and not colons
    if not name or len(name) > MAX_NAME or not name.isprintable() or "\\" in name or drive:
        raise UnsafeMember(f"{name[:80]!r} is not a plain relative name.")
    if any(part in {"", ".", ".."} for part in parts):
        raise UnsafeMember(f"{name[:80]!r} leaves its folder.")


def is_litter(name: str) -> bool:
    """Whether a member is one that macOS adds to archives by itself."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] == ".DS_Store"
