"""Boolean functions as a Liberty file writes them: `!A & (B | C)`, `(A * B)'`, `A ^ B`.

Inversion binds closest, then exclusive or, then and, then or (Liberty user guide, `function`).
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.silicon.liberty import LibertyError

Node = tuple[Any, ...]
"""`("pin", name)`, `("not", a)`, `("and" | "or" | "xor", a, b)` or `("constant", "0" | "1")`."""

_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|[01]|[!'&*|+^()])")
_SYMBOLS = {"and": "&", "or": "|", "xor": "^"}


@cache
def parse(text: str) -> Node:
    """The tree of a Liberty function.

    Raises:
        LibertyError: the text is not one.
    """
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise LibertyError(f"not a Boolean function: {text!r}")
        tokens.append(match[1])
        position = match.end()
    parser = _Parser(tokens, text)
    tree = parser.any_of()
    if parser.tokens:
        raise LibertyError(f"not a Boolean function: {text!r} goes on after its end")
    return tree


class _Parser:
    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens = tokens
        self.text = text

    def _next_is(self, *tokens: str) -> bool:
        return bool(self.tokens) and self.tokens[0] in tokens

    def any_of(self) -> Node:
        tree = self.all_of()
        while self._next_is("|", "+"):
            self.tokens.pop(0)
            tree = ("or", tree, self.all_of())
        return tree

    def all_of(self) -> Node:
        tree = self.parity_of()
        while self.tokens and self.tokens[0] not in ("|", "+", ")"):  # a space is an "and" too
            if self._next_is("&", "*"):
                self.tokens.pop(0)
            tree = ("and", tree, self.parity_of())
        return tree

    def parity_of(self) -> Node:
        tree = self.literal()
        while self._next_is("^"):
            self.tokens.pop(0)
            tree = ("xor", tree, self.literal())
        return tree

    def literal(self) -> Node:
        if not self.tokens:
            raise LibertyError(f"not a Boolean function: {self.text!r} ends too early")
        token = self.tokens.pop(0)
        if token == "!":
            return ("not", self.literal())
        if token == "(":
            tree = self.any_of()
            if not self._next_is(")"):
                raise LibertyError(f"not a Boolean function: {self.text!r} lacks a parenthesis")
            self.tokens.pop(0)
        elif token in ("0", "1"):
            tree = ("constant", token)
        elif token[0].isalpha() or token[0] == "_":
            tree = ("pin", token)
        else:
            raise LibertyError(f"not a Boolean function: {self.text!r}, at {token!r}")
        while self._next_is("'"):
            self.tokens.pop(0)
            tree = ("not", tree)
        return tree


def pins(tree: Node) -> frozenset[str]:
    """Names that a function reads."""
    if tree[0] == "pin":
        return frozenset((tree[1],))
    return frozenset().union(*(pins(part) for part in tree[1:] if isinstance(part, tuple)))


def source(tree: Node, names: Mapping[str, str]) -> str:
    """The function in Python, `names` for its pins and `M` for all ones.

    It holds bit by bit, for Python's integers and for arrays of words alike.
    """
    if tree[0] == "pin":
        return names[tree[1]]
    if tree[0] == "constant":
        return "M" if tree[1] == "1" else "(M ^ M)"
    if tree[0] == "not":
        return f"(M ^ {source(tree[1], names)})"
    return f"({source(tree[1], names)} {_SYMBOLS[tree[0]]} {source(tree[2], names)})"


@cache
def function(text: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """The function that a text writes, as `f(M, *arguments)`.

    Raises:
        LibertyError: it reads a pin that is not among the arguments.
    """
    tree = parse(text)
    if unknown := pins(tree) - set(arguments):
        raise LibertyError(f"function {text!r} reads {min(unknown)}, which is no pin of the cell")
    names = {name: f"a{k}" for k, name in enumerate(arguments)}
    compiled: Callable[..., Any] = eval(
        f"lambda {', '.join(['M', *names.values()])}: {source(tree, names)}", {}
    )
    return compiled


@cache
def truth(text: str, arguments: tuple[str, ...]) -> NDArray[np.bool_]:
    """[2 ** n] whether the function is true; bit k of the index is `arguments[k]`."""
    states = np.arange(2 ** len(arguments))
    columns = [(states >> k & 1).astype(np.bool_) for k in range(len(arguments))]
    value = function(text, arguments)(np.ones(len(states), dtype=np.bool_), *columns)
    result: NDArray[np.bool_] = value
    return result
