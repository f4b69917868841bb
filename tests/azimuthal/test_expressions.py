import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azimuthal.errors import ExpressionError, GoniometerError
from azimuthal.expressions import MAX_DEPTH, MAX_LENGTH, Expression, function_names

VALUES = {"pos": 12.5, "a": 0.75, "b": -3.0, "pi": math.pi}


def value(text, **more):
    values = VALUES | more
    return Expression.parse(text, values)(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/2", 0.5),
        ("7//2", 3.0),
        ("-7 // 2", -4.0),
        ("-7 % 3", 2.0),
        ("2**3**2", 512.0),
        ("-2**2", -4.0),
        ("2**-1", 0.5),
        ("+pos - -b", 9.5),
        ("  (pos * a + b) / 2 ", 3.1875),
        ("pos*pi/180", math.radians(12.5)),
        ("where(pos > 10, a, b)", 0.75),
        ("where((pos > 10) & (b < -5), a, b)", -3.0),
        ("where((pos > 10) | (b < -5), a, b)", 0.75),
        ("where(~(pos > 10), a, b)", -3.0),
        ("where(pos == 12.5, 1, 0)", 1.0),
        ("(pos > 10) * a", 0.75),
        ("where(b > 0, log(b), 0)", 0.0),
        ("arctan2(1, -1)", 0.75 * math.pi),
        ("fmod(-7, 3)", -1.0),
        ("floor(-a) + ceil(a)", 0.0),
        ("1e-3 + .5", 0.501),
        ("10**15", 1e15),
        ("0x10", 16.0),
    ],
)
def test_expression_value(text, expected):
    assert value(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("name", [n for n in function_names() if n != "where"])
def test_expression_function_is_numexprs(name):
    import numexpr

    argument = {"arccosh": "1 + a", "log": "a", "arctanh": "a - 0.1"}.get(name, "a")
    two = name in ("arctan2", "fmod", "hypot", "copysign", "minimum", "maximum")
    text = f"{name}({argument}, b)" if two else f"{name}({argument})"
    names = {"a": np.float64(0.75), "b": np.float64(-3.0)}
    assert value(text) == pytest.approx(float(numexpr.evaluate(text, local_dict=names)), rel=1e-14)


leaves = st.one_of(st.sampled_from(["pos", "a", "b", "pi"]), st.integers(0, 9).map(str), st.floats(0.1, 9).map(repr))
texts = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["sin", "cos", "arctan", "abs", "floor", "-", "+"]), inner).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
        st.tuples(inner, inner, inner, inner).map(lambda t: f"where({t[0]} < {t[1]}, {t[2]}, {t[3]})"),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_expression_agrees_with_python_arithmetic(text):
    functions = {n: getattr(np, n) for n in ("sin", "cos", "arctan", "abs", "floor", "where")}
    with np.errstate(all="ignore"):
        try:
            expected = float(eval(text, functions | {k: np.float64(v) for k, v in VALUES.items()}))
        except ZeroDivisionError:
            return  # of two whole numbers, perhaps in a branch that `where` does not take
    try:
        ours = value(text)
    except GoniometerError:
        return  # a division by zero somewhere: numpy may have gone on from an infinity
    assert ours == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_expression_unknown_name_is_told_with_what_is_known():
    with pytest.raises(
        ExpressionError, match=r"'e\*pos' contains the unknown name 'e': known are a, b, pi, pos; .*sin"
    ):
        value("e*pos")
    with pytest.raises(ExpressionError, match=r"calls the unknown function 'deg2rad': functions are sin.*where"):
        value("deg2rad(pos)")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "pos.__class__",
        "pos[0]",
        "[pos]",
        "(pos, a)",
        "{}",
        "lambda: 0",
        "[x for x in (1, 2)]",
        "pos if a else b",
        "pos and a",
        "not pos",
        "1 < pos < 20",
        "pos in (1, 2)",
        "(x := 3)",
        "f'{pos}'",
        "'text'",
        "b'bytes'",
        "True",
        "None",
        "...",
        "2j",
        "pos ^ 2",
        "pos << 2",
        "pos @ a",
        "~pos",
        "pos & a",
        "where(pos, a, b)",
        "sin()",
        "sin(pos, a)",
        "sin(x=pos)",
        "sin(*pos)",
        "(sin)(cos)",
        "sin",
        "max(a, b)",
        "pos = 3",
        "pos; a",
        "import os",
        "2 pos",
        "1if pos",
        "pos +",
        "(pos",
        "pos\x00",
        "",
        "   ",
        "#",
        None,
        7,
    ],
)
def test_expression_that_is_not_plain_arithmetic_is_refused(text):
    with pytest.raises(ExpressionError):
        Expression.parse(text, VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 400 + "pos" + ")" * 400,
        "-" * 1900 + "pos",
        "+".join(["pos"] * 900),
        "sin(" * 300 + "pos" + ")" * 300,
        "**".join(["9"] * 900),
        "9" * (MAX_LENGTH - 1),
        "1" + "0" * 400,
        "1e999",
        "pos+" * MAX_LENGTH,
    ],
)
def test_expression_of_hostile_size_is_refused_at_once(text):
    with pytest.raises(ExpressionError):
        Expression.parse(text, VALUES)


@pytest.mark.parametrize("text", ["9**9**9**9", "pos**pos**pos**pos", "exp(exp(exp(pos)))"])
def test_expression_overflow_is_an_error_not_a_wait(text):
    with pytest.raises(GoniometerError, match="has no value"):
        value(text)


@pytest.mark.parametrize(
    "text", ["1/(pos-12.5)", "pos % 0", "pos // 0.0", "log(b)", "sqrt(b)", "b**0.5", "arcsin(2)", "0**-1", "fmod(a, 0)"]
)
def test_expression_without_a_finite_value_tells_the_values(text):
    with pytest.raises(GoniometerError, match=r"^expression '.*' .*(has no value|not finite)"):
        value(text)
    with pytest.raises(GoniometerError, match=r"with pos = 12\.5 has no value"):
        value("1/(pos-12.5)")


def test_expression_long_sums_and_its_names():
    expression = Expression.parse("+".join(["pos"] * MAX_DEPTH), VALUES)
    assert expression(VALUES) == 12.5 * MAX_DEPTH
    assert Expression.parse("a*pos + a*sin(b)", VALUES).names == ("a", "b", "pos")
    assert Expression.parse("a*pos", VALUES) == Expression.parse("a*pos", VALUES)
    assert hash(Expression.parse("a*pos", VALUES)) == hash(Expression.parse("a*pos", VALUES))
