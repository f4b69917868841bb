"""YAML and JSON text to plain values, remembering on which line each key stands.

YAML is read by the rules of YAML 1.2 where 1.1 surprises: ``no`` is a word, ``1e-3`` is a number, ``1_000`` and
``60:30`` are words.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from bluesky_powder.recipe.mistakes import Key, Mistake


@dataclass(frozen=True)
class Lined:
    """What a text says.

    Attributes
    ----------
    value
        Plain dicts, lists and scalars.
    lines
        Key path -> line number, counted from 1.
    mistakes
        What is wrong with the text itself: bad syntax, keys given twice.
    """

    value: Any
    lines: dict[Key, int] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()


def read_lined(text: str, *, is_json: bool = False) -> Lined:
    """Read a YAML or JSON text.

    Parameters
    ----------
    text
        The whole file.
    is_json
        Hold the text to JSON's stricter rules.
    """
    if is_json:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            return Lined(None, {}, (Mistake((), f"not valid JSON: {error.msg} (column {error.colno})", error.lineno),))
        text = text.replace("\t", "  ")  # JSON may be indented with tabs, YAML may not
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        value = loader.construct_document(root) if root is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        return Lined(None, {}, (Mistake((), f"not valid YAML: {error.problem or error.context}", line),))
    except yaml.YAMLError as error:
        return Lined(None, {}, (Mistake((), f"not valid YAML: {error}"),))
    finally:
        loader.dispose()
    lines: dict[Key, int] = {}
    doubled = [] if root is None else list(_walk(root, (), lines))
    return Lined(value, lines, tuple(doubled))


_DEEPEST = 8


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rsplit(":", 1)[-1] not in ("bool", "int", "float", "timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    "-+.0123456789",
)


def _whole_number(loader: Any, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # 010 is ten


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def _walk(node: yaml.Node, path: Key, lines: dict[Key, int]) -> Iterator[Mistake]:
    """Note the line of everything below `node`; yield keys that are given twice."""
    if len(path) > _DEEPEST:  # an alias may contain itself
        return
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                yield Mistake((*path, key), f"given twice (also on line {seen[key]}); keep one", line)
            seen[key] = line
            lines[(*path, key)] = line
            yield from _walk(value_node, (*path, key), lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _walk(item, (*path, number), lines)
