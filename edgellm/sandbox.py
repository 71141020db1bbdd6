"""Somebody else's Jinja, on a budget: jinja2's immutable sandbox, metered so that no template can hang or fill memory.

The sandbox alone bounds what a template may reach, not how much it may do (its documentation says so). Here every loop
turn, call, filter, operator and output is charged, on the syntax tree, before the template is compiled. Knows no chat.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from contextvars import ContextVar
from typing import Any

from jinja2 import TemplateError, Undefined, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

# Four times the largest chat templates known (gpt-oss: 17 KB; Kimi: 1,300 nodes): parsing and compiling stay below 1 s.
_SOURCE_CHARS, _SOURCE_NODES = 64 * 1024, 6_000
_VALUE_CHARS = 1 << 20  # longest string, heaviest list, that a template may build on the way
_NUMBER_BITS = 4096
_WIDTH = 1_000  # padding, indentation

_FORBIDDEN = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (
        str,
        frozenset(
            {
                *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdecimal"),
                *("isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip"),
                *("partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit"),
                *("rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill"),
            }
        ),
    ),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (list, frozenset({"count", "index"})),
    (tuple, frozenset({"count", "index"})),
)
_PLAIN_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "last"),
    *("items", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "safe"),
    *("select", "selectattr", "sort", "title", "trim", "unique", "upper"),
)


class Broken(Exception):
    """The template cannot be used: wrong syntax, forbidden constructs, an error while it ran."""


class Exhausted(Broken):
    """The template did too much."""


class Refused(Exception):
    """The template called `raise_exception`: it does not like these messages."""


class Meter:
    """What is left of a budget."""

    def __init__(self, *, fuel: int = 1_000_000, output_chars: int = 1 << 20, time_s: float = 0.7) -> None:
        self._fuel, self._output = fuel, output_chars
        self._until = time.monotonic() + time_s

    def charge(self, amount: int = 1) -> None:
        """Pay for work: about one unit per syntax node run, or per 64 characters made."""
        self._fuel -= amount
        if self._fuel < 0 or time.monotonic() > self._until:
            raise Exhausted("it takes too many steps")

    def printed(self, text: str) -> str:
        """Pay for output."""
        self.charge(1 + len(text) // 64)
        self._output -= len(text)
        if self._output < 0:
            raise Exhausted("it writes too much")
        return text

    def made(self, value: Any) -> Any:
        """Pay for a new value, and refuse one that is too large."""
        self.charge(1 + _size(value) // 64)
        if _size(value) > _VALUE_CHARS:
            raise Exhausted("it builds a value that is too long")
        if isinstance(value, int) and value.bit_length() > _NUMBER_BITS:
            raise Exhausted("it computes a number that is too large")
        return value

    def weighed(self, value: Any) -> Any:
        """Refuse a container whose text would be too long: lists that hold each other grow exponentially in print."""
        self.weigh(value)
        return value

    def weigh(self, value: Any) -> int:
        """About how many characters a value would print. Containers hold plain data only."""
        weight, todo = 0, [value]
        while todo:
            one = todo.pop()
            weight += 4 + (len(one) if isinstance(one, str) else 0)  # quotes, comma, blank
            if weight > _VALUE_CHARS:
                raise Exhausted("it builds a value that is too large")
            if isinstance(one, dict):
                todo += [*one, *one.values()]
            elif isinstance(one, (list, tuple)):
                todo += one
            elif one is not value and not isinstance(one, _PLAIN):
                raise Broken(f"it puts a {type(one).__name__} into a container")
        self.charge(1 + weight // 64)
        return weight


_PLAIN = (str, int, float, type(None), Undefined)
_meter: ContextVar[Meter] = ContextVar("meter")


class Program:
    """A compiled template."""

    def __init__(self, source: str) -> None:
        if len(source) > _SOURCE_CHARS:
            raise Broken(f"it has {len(source):,} characters, more than {_SOURCE_CHARS:,}")
        try:
            self._template = _environment().from_string(_metered(source))
        except (TemplateError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
            raise Broken(_reason(error)) from error

    def run(self, variables: Mapping[str, Any], meter: Meter) -> str:
        """Render. Raises Refused when the template refuses its input, Broken or Exhausted when it fails."""
        token = _meter.set(meter)
        try:
            return self._template.render(variables)
        except (Refused, Broken):
            raise
        except RecursionError as error:
            raise Exhausted("it recurses too deeply") from error
        except Exception as error:  # whatever a template does wrong is one sentence about the template
            raise Broken(_reason(error)) from error
        finally:
            _meter.reset(token)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = " ".join(str(error).split()) or type(error).__name__
    line = getattr(error, "lineno", None)
    return f"{text[:300]} (line {line})" if line else text[:300]


# The syntax tree: everything that costs is wrapped into a filter that no template can name.


def _metered(source: str) -> nodes.Template:
    environment = _environment()
    tree = environment.parse(source)
    count = _count([tree])
    if count > _SOURCE_NODES:
        raise Broken(f"it has {count:,} syntax nodes, more than {_SOURCE_NODES:,}")
    for node in tree.find_all(_FORBIDDEN):
        raise Broken(f"it uses {{% {type(node).__name__.lower()} %}} (line {node.lineno})")
    metered: nodes.Template = _Metering().visit(tree)
    metered.set_environment(environment)
    return metered


def _count(roots: Iterable[nodes.Node]) -> int:
    todo, count = list(roots), 0
    while todo:
        count += 1
        todo.extend(todo.pop().iter_child_nodes())
    return count


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Metering(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - jinja2's names
        price = nodes.Const(_count(node.body))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filtered(price, "charge!"), lineno=node.lineno))
        if node.test is not None:
            node.test = _filtered(node.test, "tick!")
        return node

    def _visit_callee(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:
        price = nodes.Const(_count(node.body))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filtered(price, "charge!"), lineno=node.lineno))
        return node

    visit_Macro = visit_CallBlock = _visit_callee  # noqa: N815

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Const:  # noqa: N802
        return nodes.Const(node.data, lineno=node.lineno)  # static text passes `_output` too, which counts it

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "concat!")

    def _visit_container(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") == "store" else _filtered(node, "weigh!")

    visit_List = visit_Tuple = visit_Dict = _visit_container  # noqa: N815

    def _visit_quick(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "made!")

    visit_Compare = visit_Test = _visit_quick  # noqa: N815

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "made!") if isinstance(node.arg, nodes.Slice) else node


# What runs.


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, methods in _METHODS:
            if isinstance(obj, kind):
                return attr in methods
        known = isinstance(obj, (LoopContext, Macro, Namespace, Undefined))
        return known and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None or value.__name__ != "format" or re.search(r"\d{4}|\{[^}]*\{", value.__self__):
            return None  # a plain attribute then, and `format` is not among the safe ones

        def checked(*args: Any, **kwargs: Any) -> str:
            _check_fields(value.__self__.count("{"), (*args, kwargs))
            return str(wrapped(*args, **kwargs))

        return checked

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's own names
        meter = _meter.get()
        meter.charge(4)
        # Compiled code adds its own scope to the keyword arguments.
        given = (*args, *(value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")))
        for value in given:
            meter.weigh(value)
        if isinstance(owner := getattr(__obj, "__self__", None), str):
            _check_text_call(owner, __obj.__name__, given)
        result = super().call(__context, __obj, *args, **kwargs)
        return meter.weighed(result) if isinstance(result, (list, tuple, dict)) else meter.made(result)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        meter = _meter.get()
        meter.charge()
        _CHECKS[operator](left, right)
        return meter.made(super().call_binop(context, operator, left, right))


def _check_text_call(owner: str, name: str, args: tuple[Any, ...]) -> None:
    texts = [len(one) for one in args if isinstance(one, str)]
    if len(owner) * max(texts, default=0) > 1 << 26:  # searching backwards takes the product
        raise Exhausted("it searches texts that are too long")
    if name == "replace" and len(texts) == 2:
        _check_replace(owner, str(args[0]), str(args[1]))
    if name == "join" and args:
        _check_join(owner, args[0])
    if name == "zfill" and args:
        _check_width(args[0])


def _check_replace(text: str, old: str, new: str) -> None:
    if (text.count(old) if old else len(text) + 1) * len(new) > _VALUE_CHARS:
        raise Exhausted("it builds a value that is too long")


def _check_join(separator: str, parts: Any) -> None:
    if isinstance(parts, Sized) and len(parts) * len(separator) > _VALUE_CHARS:
        raise Exhausted("it builds a value that is too long")


def _check_width(width: Any) -> None:
    if not isinstance(width, int) or width > _WIDTH:
        raise Exhausted(f"it pads or indents by more than {_WIDTH:,}")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple, dict, range)) else 0


def _check_add(left: Any, right: Any) -> None:
    if _size(left) + _size(right) > _VALUE_CHARS:
        raise Exhausted("it builds a value that is too long")


def _check_multiply(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, (str, list, tuple)) and isinstance(times, int) and len(value) * times > _VALUE_CHARS:
            raise Exhausted("it builds a value that is too long")


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _NUMBER_BITS:
        raise Exhausted("it computes a number that is too large")


def _check_percent(left: Any, right: Any) -> None:
    if isinstance(left, str):
        if re.search(r"\d{4}|%[^a-zA-Z%]*\*", left):
            raise Exhausted(f"it pads or indents by more than {_WIDTH:,}")
        _check_fields(left.count("%"), right)


def _check_fields(fields: int, values: Any) -> None:
    if fields * _meter.get().weigh(values) > _VALUE_CHARS:
        raise Exhausted("it builds a value that is too long")


_CHECKS: dict[str, Callable[[Any, Any], None]] = {
    "+": _check_add,
    "*": _check_multiply,
    "**": _check_power,
    "%": _check_percent,
}


@pass_context
def _output(context: Context, value: Any) -> str:  # noqa: ARG001 - taking it keeps jinja2 from running this at compile time
    return _meter.get().printed(_text(value))


def _text(value: Any) -> str:
    """`str`, for the kinds of value that have a text in a prompt."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, dict)):
        return str(_meter.get().weighed(value))
    if isinstance(value, _PLAIN):
        return str(value)
    raise Broken(f"it writes a {type(value).__name__}, which has no text")


def _charge(amount: int) -> None:
    _meter.get().charge(amount)


def _tick(value: Any) -> Any:
    _meter.get().charge()
    return value


def _concat(parts: list[Any]) -> str:
    texts = [_text(part) for part in parts]
    if sum(map(len, texts)) > _VALUE_CHARS:
        raise Exhausted("it builds a value that is too long")
    return str(_meter.get().made("".join(texts)))


def _join(value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        raise Broken("it uses join(attribute=…), which is not supported")
    texts = [_text(one) for one in value]
    _check_join(d, texts)
    return _concat([d.join(texts)] if sum(map(len, texts)) <= _VALUE_CHARS else texts)


def _replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    text = _text(value)
    _check_text_call(text, "replace", (old, new))
    return text.replace(old, new, -1 if count is None else count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    _check_width(len(width) if isinstance(width, str) else width)
    if (text.count("\n") + 1) * (len(width) if isinstance(width, str) else width) > _VALUE_CHARS:
        raise Exhausted("it builds a value that is too long")
    return str(FILTERS["indent"](text, width, first, blank))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it in chat templates: jinja2's own filter would escape <, > and & for HTML."""
    _check_width(indent or 0)
    _meter.get().weighed(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _priced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # keeps jinja2's mark for filters that want the environment or context
    def priced(*args: Any, **kwargs: Any) -> Any:
        meter = _meter.get()
        meter.charge(1 + sum(map(_size, args)) // 16)
        return meter.made(function(*args, **kwargs))

    return priced


def _raise_exception(message: str = "") -> None:
    raise Refused(" ".join(_text(message).split())[:300])


def _strftime_now(pattern: str) -> str:
    if len(pattern) > 100 or re.search(r"%[^a-zA-Z%]*\d", pattern):
        raise Broken(f"it asks for the time as {pattern[:40]!r}")
    return datetime.datetime.now().strftime(pattern)  # the user's clock, as in transformers


class _Generation(Extension):
    """Transformers' `{% generation %}` marks what to train on; here it is only a pair of brackets."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.cache
def _environment() -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # nothing may run while compiling
        finalize=_output,
        extensions=[loopcontrols, _Generation],
        cache_size=0,
    )
    own = {"join": _join, "replace": _replace, "indent": _indent, "tojson": _tojson, "string": _text}
    plain = {name: FILTERS[name] for name in _PLAIN_FILTERS}
    environment.filters = {name: _priced(function) for name, function in {**plain, **own}.items()}
    hidden = {"charge!": _charge, "tick!": _tick, "concat!": _concat}
    hidden |= {"weigh!": lambda value: _meter.get().weighed(value), "made!": lambda value: _meter.get().made(value)}
    environment.filters |= hidden
    environment.globals = {
        "range": safe_range,
        "dict": dict,
        "namespace": Namespace,
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    return environment
