"""Text that the loader of a .pt2 evaluates: sizes (sympy) and guards (Python). Read by grammar, never evaluated.

`torch.export.load` hands `expr_str` to `sympy.sympify` and `guards_code` to `exec`; both are arithmetic over sizes
when torch wrote them, and anything else is refused. Powers are bounded: `9**9**9` is arithmetic, too.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from app.admission.errors import AdmissionError


class UnsafeExpression(AdmissionError):
    """The model carries text that its loader would evaluate, and it is not plain arithmetic, a name or a type."""

    code = "model.unsafe_expression"
    remedy = "Export the model again with an unmodified torch.export.save."


MAX_CHARACTERS = 20_000
MAX_DEPTH = 40
MAX_EXPONENT = 16
MAX_NESTED_POWERS = 2
MAX_DIGITS = 20

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<string>'[^'\\\n]{0,200}')"
    r"|(?P<sign>\*\*|//|==|!=|<=|>=|[-+*/%()<>,=&|~\[\].]))",
    re.ASCII,
)
_SYMBOL = re.compile(r"[a-z]{1,8}\d{1,9}", re.ASCII)
_FUNCTIONS = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "CeilDiv",
        "CeilToInt",
        "CleanDiv",
        "Eq",
        "Equality",
        "FloatTrueDiv",
        "FloorDiv",
        "FloorToInt",
        "Ge",
        "GreaterThan",
        "Gt",
        "Identity",
        "IntTrueDiv",
        "Integer",
        "Le",
        "LessThan",
        "Lt",
        "Max",
        "Min",
        "Mod",
        "ModularIndexing",
        "Mul",
        "Ne",
        "Not",
        "Or",
        "Pow",
        "PythonMod",
        "Rational",
        "RoundToInt",
        "StrictGreaterThan",
        "StrictLessThan",
        "ToFloat",
        "TruncToInt",
        "Unequality",
        "Where",
        "ceiling",
        "floor",
        "max",
        "min",
    }
)
_CONSTANTS = frozenset({"True", "False", "true", "false", "oo", "int_oo", "zoo", "inf"})
_ASSUMPTIONS = frozenset({"positive", "integer", "nonnegative", "nonzero", "real", "finite", "zero", "negative"})
_SIZES = frozenset({"size", "stride", "storage_offset", "dim"})
_LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"or"}),
    frozenset({"and"}),
    frozenset({"==", "!=", "<", ">", "<=", ">="}),
    frozenset({"|"}),
    frozenset({"&"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "//", "%"}),
)
_INFIX = {"Add": " + ", "Mul": "*", "FloorDiv": " // ", "Pow": "**", "Mod": " % ", "PythonMod": " % "}


class Token(NamedTuple):
    """A word of the expression: number, name, string or sign."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Term:
    """A part that was read: how it is shown, its value if it is a plain integer, and how many powers it nests."""

    text: str
    integer: int | None = None
    powers: int = 0
    atom: bool = True


def read_size(text: str) -> str:
    """Check an `expr_str` and return it as a person would write it, `2*s77`; raises `UnsafeExpression`."""
    return _Parser(text, guard=False).whole().text


def require_guard(text: str) -> None:
    """Check a line of `guards_code`: comparisons of the inputs' sizes; raises `UnsafeExpression`."""
    _Parser(text, guard=True).whole()


class _Parser:
    def __init__(self, text: str, *, guard: bool) -> None:
        self._text = text
        self._guard = guard
        self._tokens = self._split(text)
        self._position = 0
        self._depth = 0

    def whole(self) -> Term:
        term = self._level(0)
        if self._peek() != Token("end", ""):
            raise self._unsafe()
        return term

    def _split(self, text: str) -> list[Token]:
        if len(text) > MAX_CHARACTERS:
            raise self._unsafe()
        tokens, position, text = [], 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise self._unsafe()
            tokens.append(Token(match.lastgroup, match[match.lastgroup]))
            position = match.end()
        return [*tokens, Token("end", "")]

    def _unsafe(self) -> UnsafeExpression:
        return UnsafeExpression(f"The model carries an expression that is no plain arithmetic: {self._text[:80]!r}.")

    def _peek(self) -> Token:
        return self._tokens[self._position]

    def _next(self) -> Token:
        token = self._tokens[self._position]
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token

    def _accept(self, text: str) -> bool:
        if self._peek().text == text and self._peek().kind in {"sign", "name"}:
            self._next()
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unsafe()

    def _level(self, level: int) -> Term:
        """Read operators of this precedence and tighter ones."""
        if level == len(_LEVELS):
            return self._unary()
        self._depth += level == 0
        if self._depth > MAX_DEPTH:
            raise self._unsafe()
        term = self._level(level + 1)
        while self._peek().text in _LEVELS[level] and self._peek().kind in {"sign", "name"}:
            sign = self._next().text
            other = self._level(level + 1)
            term = Term(f"{term.text} {sign} {other.text}", powers=max(term.powers, other.powers), atom=False)
        self._depth -= level == 0
        return term

    def _unary(self) -> Term:
        signs = []
        while self._peek().text in {"-", "+", "~", "not"} and self._peek().kind in {"sign", "name"}:
            signs.append(self._next().text)
            if len(signs) > MAX_DEPTH:
                raise self._unsafe()
        base = self._atom()
        if self._accept("**"):
            base = self._power(base, self._exponent())
        if not signs:
            return base
        value = -base.integer if base.integer is not None and signs == ["-"] else None
        return Term("".join(signs) + base.text, value, base.powers, atom=False)

    def _exponent(self) -> Term:
        negative = self._accept("-")
        term = self._atom()
        return Term("-" + term.text, None if term.integer is None else -term.integer) if negative else term

    def _power(self, base: Term, exponent: Term) -> Term:
        powers = base.powers + 1
        if exponent.integer is None or abs(exponent.integer) > MAX_EXPONENT or powers > MAX_NESTED_POWERS:
            raise self._unsafe()
        return Term(f"{_grouped(base)}**{exponent.text}", powers=powers, atom=False)

    def _atom(self) -> Term:
        kind, text = self._next()
        if kind == "number" and len(text) <= MAX_DIGITS:
            return Term(text, int(text) if text.isdigit() else None)
        if kind == "sign" and text == "(":
            inner = self._level(0)
            self._expect(")")
            return Term(f"({inner.text})", inner.integer, inner.powers)
        if kind == "name":
            return self._named(text)
        raise self._unsafe()

    def _named(self, name: str) -> Term:
        if self._guard and name == "L":
            return self._input()
        if name == "Symbol" and not self._guard:
            return self._symbol()
        if name in _FUNCTIONS:
            return self._call(name)
        if name in _CONSTANTS or _SYMBOL.fullmatch(name):
            return Term(name)
        raise self._unsafe()

    def _symbol(self) -> Term:
        """`Symbol('s77', positive=True, integer=True)`."""
        self._expect("(")
        kind, quoted = self._next()
        if kind != "string" or not _SYMBOL.fullmatch(quoted[1:-1]):
            raise self._unsafe()
        while self._accept(","):
            if self._next().text not in _ASSUMPTIONS:
                raise self._unsafe()
            self._expect("=")
            if self._next().text not in {"True", "False"}:
                raise self._unsafe()
        self._expect(")")
        return Term(quoted[1:-1])

    def _call(self, name: str) -> Term:
        self._expect("(")
        arguments = [self._level(0)]
        while self._accept(","):
            arguments.append(self._level(0))
        self._expect(")")
        if name == "Integer" and len(arguments) == 1 and arguments[0].integer is not None:
            return arguments[0]
        if name == "Pow":
            if len(arguments) != 2:
                raise self._unsafe()
            return self._power(*arguments)
        powers = max(argument.powers for argument in arguments)
        if name in _INFIX and len(arguments) > 1:
            return Term(_INFIX[name].join(map(_grouped, arguments)), powers=powers, atom=False)
        return Term(f"{name}({', '.join(argument.text for argument in arguments)})", powers=powers)

    def _input(self) -> Term:
        """`L['x'].size()[0]`: a size of an input, the only thing a guard may look at."""
        while self._accept("["):
            if self._next().kind not in {"string", "number"}:
                raise self._unsafe()
            self._expect("]")
        if self._accept("."):
            if self._next().text not in _SIZES:
                raise self._unsafe()
            self._expect("(")
            self._expect(")")
            if self._accept("["):
                if self._next().kind != "number":
                    raise self._unsafe()
                self._expect("]")
        return Term("L")


def _grouped(term: Term) -> str:
    return term.text if term.atom or term.integer is not None else f"({term.text})"
