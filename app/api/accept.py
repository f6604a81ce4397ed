"""Which representation a client prefers (RFC 9110, Accept)."""

from collections.abc import Sequence

from fastapi import Request

from app.api.errors import NotAcceptable


def preferred(request: Request, offered: Sequence[str]) -> str:
    """Choose among the offered media types; the first offered wins ties. Raises `NotAcceptable`."""
    wanted = [_parsed(part) for part in request.headers.get("accept", "*/*").split(",") if part.strip()]
    if not wanted:
        return offered[0]
    best = max(offered, key=lambda media_type: _quality(media_type, wanted))
    if _quality(best, wanted) <= 0:
        raise NotAcceptable(f"This is offered as {', '.join(offered)}.")
    return best


def _parsed(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media_type.lower(), float(parameter[2:])
            except ValueError:
                return media_type.lower(), 0.0
    return media_type.lower(), 1.0


def _quality(media_type: str, wanted: Sequence[tuple[str, float]]) -> float:
    # The most specific range that matches decides.
    kind = media_type.partition("/")[0]
    for pattern in (media_type, f"{kind}/*", "*/*"):
        for named, quality in wanted:
            if named == pattern:
                return quality
    return 0.0
