"""Text that came from outside, made safe to show: one line, nothing that steers a terminal or the reading direction."""

import re
import unicodedata

REPLACEMENT = "\ufffd"
MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#$])|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)


def one_line(text: str) -> str:
    """One printable line: white space becomes a space, control and direction characters a replacement mark."""
    return "".join(_shown(character) for character in text)


def markdown(text: str) -> str:
    """A line that Markdown shows as it is: no markup, no table cell, no link."""
    return MARKDOWN_SPECIAL.sub(lambda match: f"\\{match.group(0)}", arrows(one_line(text)))


def arrows(text: str) -> str:
    """Typographic arrows."""
    return text.replace("->", "→")


def shortened(text: str, width: int) -> str:
    """The text in at most `width` characters; the middle is left out, since ends tell layers apart."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _shown(character: str) -> str:
    if character in "\t\n\r\v\f\u2028\u2029":
        return " "
    # Cc: controls, escape sequences. Cf: bidirectional overrides, zero width. Cs: lone surrogates, not encodable.
    return REPLACEMENT if unicodedata.category(character) in {"Cc", "Cf", "Cs"} else character
