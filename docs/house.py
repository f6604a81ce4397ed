"""Draws `docs/house.svg`: `python docs/house.py`. The engine's floors are those of import-linter's contract."""

import tomllib
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_suffix(".svg")
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
WIDTH, ROW, GAP, TOP = 1040, 40, 8, 96
LEFT, MIDDLE, RIGHT = (24, 300), (364, 300), (704, 312)
"""Where each column begins, and how wide it is."""
LETTER = 7.4
MIDDLE_OF_IT = 'text-anchor="middle"'
TRIPS = {1: "an upload", 2: "a job", 3: "progress", 4: "a result"}
SERVICE = [
    ("app.api", "HTTP to calls and back", (1, 2, 3, 4)),
    ("app.services", "what may be done, and when", (1, 2, 4)),
    ("app.admission", "reads uploads, torch-free", (1,)),
    ("app.db", "all SQL; the row is the truth", (1, 2, 3, 4)),
    ("app.storage", "a folder, or S3", (1, 4)),
    ("app.queue", "carries ids", (2,)),
    ("app.report", "figures to pages", (4,)),
    ("app.settings", "from the environment", ()),
    ("app.spec", "the contract", (1, 2, 3, 4)),
    ("app.errors", "code, sentence, remedy", ()),
]
PARENT = [
    ("worker_process, tasks", "takes ids from the queue", (2,)),
    ("runner, attempt", "one job, one attempt", (2,)),
    ("prepare", "files and order into a folder", (2,)),
    ("job_sandbox, child_monitor", "starts, watches, ends", (2, 3)),
    ("heartbeat, child_messages", "the row hears of it", (3,)),
    ("results, publish", "checks, stores, finishes", (4,)),
    ("fork_server", "has the zygote fork a child", (2,)),
    ("jail", "around everything below", ()),
    ("toolchain_host", "other environments, jailed too", ()),
]
ENGINE_TRIPS = {"job": (2, 4), "delivery": (4,), "progress": (3,)}
STYLE = """
  .back{fill:#fff}.room{fill:#fbfaf8;stroke:#b9b4aa}.jailed{fill:#fff7ed;stroke:#c2691c}
  .jail{fill:none;stroke:#c2691c;stroke-dasharray:5 4}
  .head{font-weight:600;font-size:16px}.head,.name{fill:#1d2429}.name{font-size:13px;font-weight:600}
  .note{fill:#56616a;font-size:12px}.line{stroke:#5b6770;fill:none;marker-end:url(#tip)}#tip path{fill:#5b6770}
  .trip{fill:#0b5cad}.number{fill:#fff;font-size:10px;font-weight:700}
  @media (prefers-color-scheme:dark){
  .back{fill:#15191c}.room{fill:#20262b;stroke:#4d565d}.jailed{fill:#2b2118;stroke:#e08a3c}.jail{stroke:#e08a3c}
  .head,.name{fill:#eef2f4}.note{fill:#aab5bd}.line{stroke:#9aa7b0}#tip path{fill:#9aa7b0}
  .trip{fill:#7cb8f2}.number{fill:#10202f}
  }
"""
DESCRIPTION = (
    "Three columns: the service with its layers, the worker's parent process, and the jailed child with the rooms of "
    "the engine on their floors. In the service and the engine every import points down; numbers mark the four trips "
    "of data."
)


def picture() -> str:
    """The whole SVG."""
    floors = engine_floors()
    bottom = TOP + max(len(SERVICE), len(PARENT), len(floors)) * (ROW + GAP)
    arrows_y = TOP + 3 * (ROW + GAP) + ROW // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 62}" role="img"',
        """aria-labelledby="t d" font-family="system-ui, -apple-system, 'Segoe UI', sans-serif">""",
        f'<title id="t">The rooms of Pare</title>\n<desc id="d">{DESCRIPTION}</desc>\n<style>{STYLE}</style>',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"',
        'orient="auto"><path d="M0 0 10 5 0 10z"/></marker></defs>',
        f'<rect class="back" width="{WIDTH}" height="{bottom + 62}" rx="10"/>',
        *heads(),
        f'<rect class="jail" x="{RIGHT[0] - 10}" y="{TOP - 12}" width="{RIGHT[1] + 20}"',
        f'height="{bottom - TOP + 16}" rx="10"/>',
        *column(LEFT, SERVICE),
        *column(MIDDLE, PARENT),
        *(piece for number, floor in enumerate(floors) for piece in rooms(floor, TOP + number * (ROW + GAP))),
        *legend(bottom + 30),
        f'<path class="line" d="M{MIDDLE[0]} {arrows_y}H{LEFT[0] + LEFT[1] + 4}"/>',
        f'<path class="line" d="M{MIDDLE[0] + MIDDLE[1]} {arrows_y}H{RIGHT[0] - 14}"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def heads() -> list[str]:
    """What each column is."""
    columns = (
        (LEFT, "Service", "never imports torch; layers point down"),
        (MIDDLE, "Worker: the parent", "worker.runtime; credentials, no torch"),
        (RIGHT, "Jailed child: the engine", "worker.engine; no credentials, no network"),
    )
    return [text(x, 40, "head", title) + text(x, 60, "note", note) for (x, _), title, note in columns]


def engine_floors() -> list[list[str]]:
    """The rooms of each floor, the highest first."""
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract.get("containers") == ["worker.engine"]]
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def column(place: tuple[int, int], entries: list[tuple[str, str, tuple[int, ...]]]) -> list[str]:
    """A room below the other, with a note in each."""
    return [
        piece
        for number, (name, note, trips) in enumerate(entries)
        for piece in room(place[0], TOP + number * (ROW + GAP), place[1], name, note, trips)
    ]


def rooms(names: list[str], y: int) -> list[str]:
    """The rooms of one floor, side by side, each as wide as its name wants."""
    wants = [len(name) + 4 + 3 * len(ENGINE_TRIPS.get(name, ())) for name in names]
    space, x, pieces = RIGHT[1] - GAP * (len(names) - 1), RIGHT[0], list[str]()
    for name, want in zip(names, wants, strict=True):
        width = space * want // sum(wants)
        pieces += room(x, y, width, name, "", ENGINE_TRIPS.get(name, ()), kind="jailed")
        x += width + GAP
    return pieces


def room(x: int, y: int, width: int, name: str, note: str, trips: tuple[int, ...], kind: str = "room") -> list[str]:
    """A room as a box."""
    narrow = width < LETTER * len(name) + 16 + 18 * len(trips)
    return [
        f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{ROW}" rx="6"/>',
        text(x + 7, y + (17 if note else 25), "name", name, 'style="font-size:10.5px"' if narrow else ""),
        *([text(x + 7, y + 33, "note", note)] if note else []),
        *(badge(x + width - 12 - 18 * place, y + 13, trip) for place, trip in enumerate(reversed(trips))),
    ]


def badge(x: int, y: int, trip: int) -> str:
    """The number of a trip."""
    return f'<circle class="trip" cx="{x}" cy="{y}" r="8"/>' + text(x, y + 3.5, "number", str(trip), MIDDLE_OF_IT)


def legend(y: int) -> list[str]:
    """What the numbers stand for."""
    places = [(LEFT[0] + 8 + 140 * place, trip, name) for place, (trip, name) in enumerate(TRIPS.items())]
    return [badge(x, y, trip) + text(x + 16, y + 4, "note", name) for x, trip, name in places]


def text(x: float, y: float, kind: str, content: str, more: str = "") -> str:
    """A line of text whose class is `kind`."""
    return f'<text class="{kind}" x="{x}" y="{y}"{" " * bool(more)}{more}>{escape(content)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
