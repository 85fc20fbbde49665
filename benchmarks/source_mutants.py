"""One-place mutants of a unit's Python source.

What is changed is what a unit computes: the functions of the file but for `__init__`, whose ports
the contract fixes, and the numbers at its top. Texts, names of signals and formatting stay.
"""

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "+"), ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"), ast.BitXor: ("^", "|"), ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"), ast.FloorDiv: ("//", "*"), ast.Div: ("/", "*"), ast.Pow: ("**", "*"),
}  # fmt: skip
"""Operator -> how it is written, and what it is exchanged for."""

ORDERED = (ast.Sub, ast.LShift, ast.RShift, ast.FloorDiv, ast.Div, ast.Pow)
"""Operators whose operands are not free to change places."""

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Eq: ("!=",), ast.NotEq: ("==",), ast.Lt: ("<=", ">="), ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="), ast.GtE: (">", "<"),
}  # fmt: skip
"""Comparison -> what it is exchanged for."""

OTHER_DOMAIN = {"sync": "comb", "comb": "sync"}

OTHER_REDUCTION = {"all": "any", "any": "all"}


@dataclass(frozen=True)
class SourceMutant:
    """A source with one place changed."""

    kind: str
    """What sort of change it is."""

    line: int
    """Where, from 1."""

    change: str
    """The changed lines before and after, in one line;"""

    source: str
    """The whole file."""


_Change = tuple[str, ast.AST, str]
"""Kind, the part that is replaced, and by what."""


def source_mutants(source: str) -> list[SourceMutant]:
    """Every one-place mutant that these rules make of a source, each text once.

    Args:
        source: A unit's file, in ASCII.
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[str, SourceMutant] = {}
    for kind, part, text in _Changes(source).all():
        begin = starts[part.lineno - 1] + part.col_offset
        end = starts[part.end_lineno - 1] + part.end_col_offset
        mutant = source[:begin] + text + source[end:]
        line, change = _difference(source, mutant)
        found.setdefault(mutant, SourceMutant(kind, line, change, mutant))
    return list(found.values())


def _difference(before: str, after: str) -> tuple[int, str]:
    """First changed line, and the lines that differ."""
    lines = before.splitlines(), after.splitlines()
    blocks = difflib.SequenceMatcher(None, *lines, autojunk=False).get_opcodes()
    changed = [block[1:] for block in blocks if block[0] != "equal"]
    old = [line.strip() for begin, end, _, _ in changed for line in lines[0][begin:end]]
    new = [line.strip() for _, _, begin, end in changed for line in lines[1][begin:end]]
    return changed[0][0] + 1, f"`{' '.join(old)}` -> `{' '.join(new)}`"


class _Changes:
    """The changes of one source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tree = ast.parse(source)
        self._has_signed = "signed" in {
            alias.name
            for node in ast.walk(self._tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self._registers = {
            target.id
            for node in ast.walk(self._tree)
            if isinstance(node, ast.AugAssign) and "sync" in self._text(node.target)
            for call in ast.walk(node.value)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
            for target in [call.func.value]
            if call.func.attr == "eq" and isinstance(target, ast.Name)
        }

    def all(self) -> Iterator[_Change]:
        """In the order of the file, parts after what they are in."""
        for scope in self._scopes():
            for node in _walk(scope):
                yield from self._of(node)

    def _scopes(self) -> Iterator[ast.AST]:
        """Numbers at the top of the file, and functions."""
        for statement in self._tree.body:
            if isinstance(statement, ast.Assign):
                yield statement.value
            bodies = statement.body if isinstance(statement, ast.ClassDef) else [statement]
            for part in bodies:
                if isinstance(part, ast.FunctionDef) and part.name != "__init__":
                    yield from part.body

    def _text(self, part: ast.AST) -> str:
        return ast.get_source_segment(self._source, part) or ""

    def _grouped(self, part: ast.AST) -> str:
        """Text that stays together beside any operator."""
        apart = isinstance(part, ast.BinOp | ast.Compare | ast.UnaryOp | ast.IfExp)
        return f"({self._text(part)})" if apart else self._text(part)

    def _of(self, node: ast.AST) -> Iterator[_Change]:
        grouped = self._grouped
        match node:
            case ast.BinOp(left, operator, right):
                yield from self._of_operation(node, left, operator, right)
            case ast.Compare(left, [comparison], [right]):
                for other in COMPARISONS[type(comparison)]:
                    yield "comparison", node, f"{grouped(left)} {other} {grouped(right)}"
            case ast.Constant(int(value)) if not isinstance(value, bool):
                yield "constant", node, str(value + 1)
                yield "constant", node, str(value - 1)
            case ast.Constant(("sync" | "comb") as domain):
                yield "register", node, repr(OTHER_DOMAIN[domain])
            case ast.UnaryOp(ast.Invert() | ast.USub(), operand):
                yield "inversion", node, grouped(operand)
            case ast.Subscript(_, ast.Slice(lower, upper)):
                for bound in (lower, upper):
                    yield from self._of_bound(bound)
            case ast.Subscript(_, index):
                yield from self._of_bound(index)
            case ast.Call(func=ast.Name(name)):
                yield from self._of_function(node, name)
            case ast.Call(func=ast.Attribute(part, name)):
                yield from self._of_method(node, part, name)
            case ast.keyword("reset_less"):
                yield "reset", node, "reset_less=False"
            case ast.AugAssign():
                yield from self._of_assignment(node)
            case ast.Assign([target], value):
                yield from self._of_signals(target, value)

    def _of_operation(
        self, node: ast.BinOp, left: ast.expr, operator: ast.operator, right: ast.expr
    ) -> Iterator[_Change]:
        sign, other = OPERATORS[type(operator)]
        a, b = self._grouped(left), self._grouped(right)
        yield "operator", node, f"({a} {other} {b})"
        if isinstance(operator, ORDERED):
            yield "operands", node, f"({b} {sign} {a})"

    def _of_bound(self, bound: ast.expr | None) -> Iterator[_Change]:
        match bound:
            case ast.Constant(int(value)):
                yield "slice", bound, str(value + 1)
                yield "slice", bound, str(value - 1)
            case ast.BinOp() | ast.Name():
                yield "slice", bound, f"{self._text(bound)} + 1"
                yield "slice", bound, f"{self._text(bound)} - 1"

    def _of_function(self, node: ast.Call, name: str) -> Iterator[_Change]:
        arguments = [self._text(each) for each in node.args]
        plain = not any(isinstance(each, ast.Starred) for each in node.args)
        match name:
            case "Mux":
                chosen, one, other = arguments
                yield "operands", node, f"Mux({chosen}, {other}, {one})"
            case "Cat" if plain and len(arguments) > 1:
                first, second, *rest = arguments
                yield "operands", node, f"Cat({', '.join([second, first, *rest])})"
            case "signed":
                yield "sign", node, arguments[0]
            case "Signal" if arguments and "signed" not in arguments[0] and self._has_signed:
                yield "sign", node.args[0], f"signed({arguments[0]})"

    def _of_method(self, node: ast.Call, part: ast.expr, name: str) -> Iterator[_Change]:
        match name:
            case "as_signed":
                yield "sign", node, self._text(part)
            case "all" | "any":
                yield "comparison", node, f"{self._text(part)}.{OTHER_REDUCTION[name]}()"
            case "If" | "Elif":
                yield "inversion", node.args[0], f"~{self._grouped(node.args[0])}"

    def _of_assignment(self, node: ast.AugAssign) -> Iterator[_Change]:
        """One assignment left out, or moved to the other domain."""
        match node.target:
            case ast.Attribute(ast.Attribute(attr="d"), domain) if domain in OTHER_DOMAIN:
                pass
            case _:
                return
        other = OTHER_DOMAIN[domain]
        parts = node.value.elts if isinstance(node.value, ast.List) else [node.value]
        for part in parts:
            yield "assignment", part, "[]"
            if len(parts) == 1:
                yield "register", node, f"m.d.{other} += {self._text(part)}"
                continue
            at = self._offset(part) - self._offset(node)
            kept = self._text(node)
            kept = f"{kept[:at]}[]{kept[at + len(self._text(part)) :]}"
            moved = f"m.d.{other} += {self._text(part)}"
            yield "register", node, f"{kept}\n{' ' * node.col_offset}{moved}"

    def _offset(self, part: ast.AST) -> int:
        lines = self._source.splitlines(keepends=True)
        return sum(map(len, lines[: part.lineno - 1])) + part.col_offset

    def _of_signals(self, target: ast.expr, value: ast.expr) -> Iterator[_Change]:
        """A register that a reset leaves as it is."""
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        values = value.elts if isinstance(value, ast.Tuple) else [value]
        for name, made in zip(targets, values, strict=False):
            match name, made:
                case ast.Name(identifier), ast.Call(func=ast.Name("Signal"), keywords=keywords):
                    given = {keyword.arg for keyword in keywords}
                    if identifier in self._registers and "reset_less" not in given:
                        text = self._text(made)
                        more = "reset_less=True)" if text.endswith("()") else ", reset_less=True)"
                        yield "reset", made, text[:-1] + more


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all in it, but for the parts of texts."""
    yield node
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, ast.JoinedStr):
            yield from _walk(part)
