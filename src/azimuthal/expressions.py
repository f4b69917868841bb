"""Strict arithmetic over named numbers, for goniometer files.

Python's ``ast`` reads the expression; what is not plain arithmetic over known names is refused there and then.
Nothing is compiled to code or handed to ``eval``: an expression becomes a tree of small functions over floats.
Meanings are those of numexpr, which pyFAI uses, except that a result which is not a finite real number is an error
instead of a NaN.
"""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from azimuthal.errors import ExpressionError, GoniometerError

Variables: TypeAlias = Mapping[str, float]
_Node: TypeAlias = Callable[[Variables], float]
_Kind: TypeAlias = Literal["number", "truth"]

MAX_LENGTH = 2000
"""Characters in an expression."""
MAX_DEPTH = 100
"""Nested operations; a sum of n terms is n deep."""


def _sign(a: float) -> float:
    return math.copysign(1.0, a) if a != 0.0 else 0.0


_FUNCTIONS: dict[str, tuple[int, Callable[..., float]]] = {
    "sin": (1, math.sin),
    "cos": (1, math.cos),
    "tan": (1, math.tan),
    "arcsin": (1, math.asin),
    "arccos": (1, math.acos),
    "arctan": (1, math.atan),
    "arctan2": (2, math.atan2),
    "sinh": (1, math.sinh),
    "cosh": (1, math.cosh),
    "tanh": (1, math.tanh),
    "arcsinh": (1, math.asinh),
    "arccosh": (1, math.acosh),
    "arctanh": (1, math.atanh),
    "exp": (1, math.exp),
    "expm1": (1, math.expm1),
    "log": (1, math.log),
    "log2": (1, math.log2),
    "log10": (1, math.log10),
    "log1p": (1, math.log1p),
    "sqrt": (1, math.sqrt),
    "abs": (1, abs),
    "floor": (1, lambda a: float(math.floor(a))),
    "ceil": (1, lambda a: float(math.ceil(a))),
    "trunc": (1, lambda a: float(math.trunc(a))),
    "round": (1, lambda a: float(round(a))),
    "sign": (1, _sign),
    "fmod": (2, math.fmod),
    "hypot": (2, math.hypot),
    "copysign": (2, math.copysign),
    "minimum": (2, min),
    "maximum": (2, max),
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class Expression:
    """An expression that has been understood.

    Attributes
    ----------
    text
        As it was written.
    names
        The variables it needs, sorted.
    """

    text: str
    names: tuple[str, ...]
    _root: _Node = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, known: Collection[str]) -> "Expression":
        """Read an expression.

        Parameters
        ----------
        text
            Numbers, `known` names, ``+ - * / // % **``, comparisons, ``& | ~`` of comparisons, parentheses and
            functions.
        known
            The names that will have values.

        Raises
        ------
        ExpressionError
            When it is anything else; expression and culprit are named, and what is known is listed.
        """
        reader = _Reader(text, known)
        return cls(text, tuple(sorted(reader.used)), reader.root)

    def __call__(self, variables: Variables) -> float:
        """Return the value.

        Raises
        ------
        GoniometerError
            On division by zero, overflow, arguments outside a function's domain: whenever there is no finite real
            value.
        """
        try:
            value = float(self._root(variables))
        except (ArithmeticError, ValueError) as error:
            raise GoniometerError(f"{self._told(variables)} has no value: {error}") from error
        if not math.isfinite(value):
            raise GoniometerError(f"{self._told(variables)} is not finite")
        return value

    def _told(self, variables: Variables) -> str:
        values = ", ".join(f"{name} = {variables[name]!r}" for name in self.names)
        return f"expression {self.text!r}" + (f" with {values}" if values else "")


class _Reader:
    """Turn one expression into a tree of functions."""

    def __init__(self, text: str, known: Collection[str]) -> None:
        self.text = text
        self.known = known
        self.used: set[str] = set()
        if not isinstance(text, str) or not text.strip():
            raise ExpressionError(f"an expression must be a text that is not empty, not {text!r}")
        if len(text) > MAX_LENGTH:
            raise ExpressionError(
                f"expression of {len(text)} characters ({text[:40]!r}...): at most {MAX_LENGTH} are read"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError, Warning) as error:
            raise self._refuse(f"cannot be read ({error})") from error
        self.root, _ = self._node(tree.body, 0)

    def _refuse(self, why: str) -> ExpressionError:
        return ExpressionError(f"expression {self.text!r} {why}")

    def _node(self, node: ast.expr, depth: int) -> tuple[_Node, _Kind]:
        if depth > MAX_DEPTH:
            raise self._refuse(f"is nested more than {MAX_DEPTH} deep")
        depth += 1
        match node:
            case ast.Constant(value=value):
                return self._constant(value), "number"
            case ast.Name(id=name):
                return self._variable(name), "number"
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                inner, _ = self._node(operand, depth)
                return (inner if isinstance(sign, ast.UAdd) else lambda v: -inner(v)), "number"
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                inner = self._truth(operand, depth)
                return lambda v: float(not inner(v)), "truth"
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
                one, two = self._truth(left, depth), self._truth(right, depth)
                if isinstance(op, ast.BitAnd):
                    return lambda v: float(bool(one(v)) and bool(two(v))), "truth"
                return lambda v: float(bool(one(v)) or bool(two(v))), "truth"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._arithmetic(_ARITHMETIC[type(op)], left, right, depth), "number"
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                compare = _COMPARISONS[type(op)]
                (one, _), (two, _) = self._node(left, depth), self._node(right, depth)
                return lambda v: float(compare(one(v), two(v))), "truth"
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments, depth), "number"
        raise self._refuse(
            f"contains {ast.unparse(node)[:60]!r}, which is not plain arithmetic: there are numbers, names, "
            "+ - * / // % **, comparisons (one at a time), & | ~ of comparisons, and functions"
        )

    def _constant(self, value: object) -> _Node:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._refuse(f"contains {value!r}, which is not a real number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._refuse("contains a number that is too large")
        return lambda _: number

    def _variable(self, name: str) -> _Node:
        if name not in self.known:
            names, functions = ", ".join(sorted(self.known)), ", ".join(function_names())
            raise self._refuse(f"contains the unknown name {name!r}: known are {names}; functions are {functions}")
        self.used.add(name)
        return lambda variables: variables[name]

    def _truth(self, node: ast.expr, depth: int) -> _Node:
        inner, kind = self._node(node, depth)
        if kind != "truth":
            raise self._refuse(f"takes {ast.unparse(node)[:60]!r} for a condition: compare it with something")
        return inner

    def _arithmetic(
        self, operate: Callable[[float, float], float], left: ast.expr, right: ast.expr, depth: int
    ) -> _Node:
        (one, _), (two, _) = self._node(left, depth), self._node(right, depth)
        return lambda v: operate(one(v), two(v))

    def _call(self, name: str, arguments: list[ast.expr], depth: int) -> _Node:
        expected = 3 if name == "where" else _FUNCTIONS.get(name, (0, None))[0]
        if not expected:
            raise self._refuse(f"calls the unknown function {name!r}: functions are {', '.join(function_names())}")
        if len(arguments) != expected:
            raise self._refuse(f"calls {name!r} with {len(arguments)} arguments instead of {expected}")
        if name == "where":
            condition = self._truth(arguments[0], depth)
            (one, _), (two, _) = (self._node(argument, depth) for argument in arguments[1:])
            return lambda v: one(v) if condition(v) else two(v)
        function = _FUNCTIONS[name][1]
        nodes = [self._node(argument, depth)[0] for argument in arguments]
        if len(nodes) == 1:
            only = nodes[0]
            return lambda v: function(only(v))
        first, second = nodes
        return lambda v: function(first(v), second(v))


def function_names() -> tuple[str, ...]:
    """Return the names of the functions that expressions may call."""
    return (*_FUNCTIONS, "where")
