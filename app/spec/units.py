"""How figures are written in sentences and reports: one spelling everywhere."""


def file_size(count: int) -> str:
    """Bytes in decimal units, three digits."""
    if count < 1000:
        return f"{count} B"
    power, unit = next(
        ((power, unit) for power, unit in ((1, "kB"), (2, "MB")) if count < 999.5 * 1000**power), (3, "GB")
    )
    value = count / 1000**power
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def duration(milliseconds: float) -> str:
    """A time in the unit that needs no leading zeros, three digits."""
    if milliseconds < 0.9995:
        return f"{digits(1000 * milliseconds)} µs"
    if milliseconds < 999.5:
        return f"{digits(milliseconds)} ms"
    return f"{digits(milliseconds / 1000)} s"


def digits(value: float) -> str:
    """Three significant digits without an exponent."""
    size = abs(value)
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def speed(ratio: float) -> str:
    """A ratio of latencies, before / after."""
    return f"{ratio:.2f}x" if ratio < 9.995 else f"{ratio:.0f}x"


def counted(count: int, noun: str) -> str:
    """A number of things, with the noun in its number."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def times(ratio: float) -> str:
    """A ratio of sizes above 1."""
    return f"{ratio:.2f} times" if ratio < 2 else f"{ratio:.1f} times"


def remaining(seconds: float) -> str:
    """Time left, as precise as a guess may be."""
    if seconds < 59.5:
        return f"{round(seconds)} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min left"
    return f"{minutes // 60} h {minutes % 60} min left"
