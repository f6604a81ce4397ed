"""Names of archive members: what may be unpacked below a folder without leaving it."""

from app.admission.errors import UnsafeMember

MAX_NAME = 500


def require_safe_name(name: str, *, special: bool = False) -> None:
    """Raise `UnsafeMember` unless `name` is relative, printable and stays inside; `special`: it is no plain file."""
    parts = name.removesuffix("/").split("/")
    if special:
        raise UnsafeMember(f"{name[:80]!r} is a link or a device.")
    if not name or len(name) > MAX_NAME or not name.isprintable() or "\\" in name or ":" in parts[0]:
        raise UnsafeMember(f"{name[:80]!r} is not a plain relative name.")
    if any(part in {"", ".", ".."} for part in parts):
        raise UnsafeMember(f"{name[:80]!r} leaves its folder.")
