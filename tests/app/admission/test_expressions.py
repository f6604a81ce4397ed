"""Sizes and guards are read by grammar: what torch writes passes, and nothing that could act does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission.expressions import UnsafeExpression, read_size, require_guard

S = "Symbol('s77', positive=True, integer=True)"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (S, "s77"),
        ("s77", "s77"),
        ("Integer(-3)", "-3"),
        (f"Mul(Integer(12), {S})", "12*s77"),
        (f"Add({S}, Integer(1))", "s77 + 1"),
        (f"Mul(Add({S}, Integer(1)), Integer(2))", "(s77 + 1)*2"),
        (f"FloorDiv(Mul({S}, Symbol('s23', integer=True)), Integer(2))", "(s77*s23) // 2"),
        (f"Min(Integer(768), Mul(Integer(768), {S}))", "Min(768, 768*s77)"),
        (f"Pow({S}, Integer(2))", "s77**2"),
        ("2*s0 + 1", "2 * s0 + 1"),
        ("((s0 - 1)//2) + 1", "((s0 - 1) // 2) + 1"),
        (f"Eq({S}, Integer(4))", "Eq(s77, 4)"),
    ],
)
def test_what_torch_writes(written: str, shown: str) -> None:
    assert read_size(written) == shown


@pytest.mark.parametrize(
    "guard",
    [
        "(16*L['ids'].size()[0]*L['ids'].size()[1]) == (32*((L['ids'].size()[0]*L['ids'].size()[1]) // 2))",
        "min(16, 16*L['ids'].size()[1]) != L['args'][0].size()[2] % 4",
        "L['x'].size()[0] >= 2 and not L['x'].stride()[1] < 1",
        "Eq(Mod(L['x'].storage_offset(), 4), 0)",
    ],
)
def test_guards_that_torch_writes(guard: str) -> None:
    require_guard(guard)


@pytest.mark.parametrize(
    "text",
    [
        "L['x']",
        "x",
        "__name__",
        "Symbol('s0', positive=evil())",
        "Symbol(s0)",
        "s0 if s0 else s1",
        "[s0]",
        "s0; s1",
        "s0 = 1",
        "Pow(Integer(2), s0)",
        "2**s0",
        "2**2**9",
        "1 1",
        "Add()",
        "Add(",
        "'s0'",
        "s0.is_integer",
        "9" * 40,
        "\x00",
        "s0\n\n#",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(UnsafeExpression):
        read_size(text)


@pytest.mark.parametrize("text", ["L['x'].data()", "L.__class__", "L['x\\'].size()", "exit()", "L['x'].size()[L]"])
def test_guards_look_at_sizes_only(text: str) -> None:
    with pytest.raises(UnsafeExpression):
        require_guard(text)


@given(
    st.lists(st.sampled_from(["(", ")", "**", "+", "9", "s0", "Pow", ",", "Symbol", "'s0'", "L", "[", "]", "-", "."]))
)
def test_any_tokens_are_read_or_refused(tokens: list[str]) -> None:
    for read in (read_size, require_guard):
        try:
            read("".join(tokens))
        except UnsafeExpression:
            continue
