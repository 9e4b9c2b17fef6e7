"""PURE: the language of templates: Jinja2 in an immutable sandbox that knows values and filters.

What a lead has is only ever a value, never a template. A missing value that is printed is an error.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, TemplateError, Undefined, UndefinedError, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from hyperdrip.errors import RenderError
from hyperdrip.template_values import CONTROL, Names, clean

LONGEST_OUTPUT = 500_000
LONGEST_SHOWN = 80
# No phone and no notes: who sends does not read them.
LEAD_NAMES = frozenset({"name", "first_name", "email", "fields"})
FILTERS = frozenset({
    "abs", "capitalize", "count", "d", "default", "first", "float", "int", "join", "last", "length",
    "lower", "replace", "round", "sort", "title", "trim", "truncate", "upper", "wordcount",
})  # fmt: skip
TESTS = frozenset({
    "defined", "divisibleby", "eq", "even", "false", "ge", "gt", "in", "le", "lt", "ne", "number",
    "odd", "string", "true", "undefined",
})  # fmt: skip
# Where an expression stands in a link: writes a whole address, or a part of one.
HREF, URL_PART = "_href", "_url_part"
SCHEMES = ("https://", "http://", "mailto:", "tel:")
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr,
    nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.If, nodes.For, nodes.Assign,
    nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Add,
    nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Concat,
    nodes.List, nodes.Tuple, nodes.Keyword,
)  # fmt: skip


class Mistake(NamedTuple):
    """What is wrong with a template, and on which of its lines, from 1."""

    line: int
    text: str


class _Missing(StrictUndefined):
    """Says the name of what is missing, and nothing else, when it is printed."""

    __slots__ = ()

    @property
    def path(self) -> str:
        return str(self._undefined_name) if self._undefined_name else "a value"

    @property
    def _undefined_message(self) -> str:
        return self.path


@cache
def _eval_context(environment: Environment) -> EvalContext:
    """There is no {% autoescape %}, so all templates of an environment have the same."""
    return EvalContext(environment)


class _Context(Context):
    """What a template looks its names up in: the values and nothing else, made in less time."""

    def __init__(self, environment: Environment, values: dict[str, Any]) -> None:
        self.parent = values
        self.vars: dict[str, Any] = {}
        self.environment = environment
        self.eval_ctx = _eval_context(environment)
        self.exported_vars: set[str] = set()
        self.name = None
        self.globals_keys = set()
        self.blocks = {}


class _Sandbox(ImmutableSandboxedEnvironment):
    """Values, filters and conditions: no methods, no functions, no other templates."""

    intercepted_binops = frozenset({"*", "%"})

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(
            undefined=_Missing,
            autoescape=autoescape,
            finalize=_printed,
            keep_trailing_newline=True,
            auto_reload=False,
            cache_size=0,
        )
        self.globals.clear()
        self.filters = {name: self.filters[name] for name in FILTERS} | {
            HREF: _href,
            URL_PART: _url_part,
            "join": _join,
            "replace": _replace,
        }
        self.tests = {name: self.tests[name] for name in TESTS}

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Put the output together, up to a length."""
        taken = list[str]()
        length = 0
        for piece in pieces:
            length += len(piece)
            _refuse_longer(length)
            taken.append(piece)
        return "".join(taken)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look up a name; objects of Python have none, but for `loop`."""
        if isinstance(obj, LoopContext):
            return super().getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up a name or a position; what is blank there is missing."""
        if isinstance(obj, Names):
            path, found = f"{obj.path}.{argument}", obj.get(argument)
        elif isinstance(obj, _Missing):
            path, found = f"{obj.path}.{argument}", None
        else:
            path, found = str(argument), _item(obj, argument)
        return self.undefined(name=path) if found is None else found

    def call_binop(self, _context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply and divide numbers; a text times a million is not for mail."""
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise SecurityError(f"{operator} is for numbers")
        return self.binop_table[operator](left, right)


def _item(obj: Any, position: Any) -> Any:
    if not isinstance(obj, str | list) or not isinstance(position, int | slice):
        return None
    try:
        return obj[position]
    except IndexError:
        return None


def _printed(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else clean(value)
    if isinstance(value, int | float | Undefined):
        return value
    if isinstance(value, Names):
        return str(value)  # which says what to do
    raise TemplateRuntimeError(f"a {type(value).__name__} cannot be printed; name a value in it")


def _refuse_longer(length: int) -> None:
    if length > LONGEST_OUTPUT:
        raise TemplateRuntimeError(f"it gets longer than {LONGEST_OUTPUT} characters")


def _join(values: Any, separator: str = "") -> str:
    """As Jinja's, for lists of texts and numbers, up to a length."""
    texts = [str(_printed(value)) for value in values]
    _refuse_longer(sum(map(len, texts)) + len(texts) * len(separator))
    return separator.join(texts)


def _replace(value: Any, old: str, new: str, count: int = -1) -> str:
    """As Jinja's, up to a length."""
    text = str(_printed(value))
    _refuse_longer(len(text) + text.count(old) * len(new))
    return text.replace(old, new, count)


def _href(value: Any) -> str:
    """A whole address in a link. Other schemes would run code, or open files."""
    text = str(value)
    if not text.lower().startswith(SCHEMES):
        raise TemplateRuntimeError(
            f"{text[:LONGEST_SHOWN]!r} is no address for a link; it has to begin with https://"
        )
    return quote(text, safe="/:?#[]@!$&'()*+,;=%~")


def _url_part(value: Any) -> str:
    """A value within an address, which stays one part of it."""
    return quote(str(value), safe="")


TEXT = _Sandbox(autoescape=False)
HTML = _Sandbox(autoescape=True)


def lex(source: str) -> Iterator[tuple[int, str, str]]:
    """The parts of a template: line, kind, text. Raises: TemplateSyntaxError."""
    return TEXT.lex(source)


def find_mistakes(source: str, known: Iterable[str]) -> list[Mistake]:
    """List what is wrong with a template. `known`: the names that it can use."""
    if control := CONTROL.search(source):
        line = source.count("\n", 0, control.start()) + 1
        return [Mistake(line, f"has the control character {control[0]!r}; take it out")]
    try:
        tree = TEXT.parse(source)
        found = [Mistake(line, text) for line, text in _walk(tree)]
        if not found:
            found = _find_unknown(tree, sorted(known))
        if not found:
            # Some mistakes are seen only now, by Jinja or by Python.
            TEXT.compile(source)
    except TemplateSyntaxError as error:
        return [Mistake(error.lineno, f"{error.message}; check the braces")]
    except (RecursionError, SyntaxError, MemoryError):
        return [Mistake(1, "has too many things within each other; make it simpler")]
    return sorted(found)


def _find_unknown(tree: nodes.Template, known: list[str]) -> list[Mistake]:
    lines = {node.name: node.lineno for node in reversed([*tree.find_all(nodes.Name)])}
    return [
        Mistake(lines[name], f"unknown name {name!r}; known are {', '.join(known)}")
        for name in find_undeclared_variables(tree) - set(known)
    ]


def _walk(node: nodes.Node) -> Iterator[tuple[int, str]]:
    found = list(_judge(node))
    yield from found
    if not found:  # what is within a mistake is not judged
        for inner in node.iter_child_nodes():
            yield from _walk(inner)


def _judge(node: nodes.Node) -> Iterator[tuple[int, str]]:
    if isinstance(node, nodes.Call):
        yield node.lineno, "functions cannot be called; use a filter, such as {{ name | upper }}"
    elif not isinstance(node, _NODES):
        what = type(node).__name__.lower()
        yield node.lineno, f"{what!r} is not for campaigns; use values, filters, if and for"
    elif isinstance(node, nodes.Filter | nodes.Test):
        what, known = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
        if node.name not in known:
            yield node.lineno, f"unknown {what} {node.name!r}; known are {', '.join(sorted(known))}"
    elif isinstance(node, nodes.Getattr | nodes.Getitem):
        of = node.node
        if isinstance(of, nodes.Name) and of.name in LEAD_NAMES - {"fields"}:
            yield node.lineno, f"{of.name} is a text and has no parts; further values are fields"


Render = Callable[[dict[str, Any]], str]


def compile_template(
    source: str, constants: Mapping[str, Any] | None = None, *, is_html: bool = False
) -> Render:
    """Make a function of a template that `find_mistakes` has nothing against.

    `constants`: values that are the same whenever it is called. They become part of the text around
    them, so that little is left to do for a lead. What is printed is escaped when `is_html`. The
    function takes all values, those too, and raises RenderError.
    """
    environment = HTML if is_html else TEXT
    tree = environment.parse(source)
    own = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"} | {"loop"}
    fixed = {
        name: value
        for name, value in (constants or {}).items()
        if name not in own
        and isinstance(value, str | int | float)
        and not (isinstance(value, float) and not math.isfinite(value))
    }
    template = environment.from_string(_Constants(fixed).visit(tree))
    # Without a loop there is no more of it than the template is long.
    concat = _Sandbox.concat if tree.find(nodes.For) else "".join
    write = template.root_render_func

    def render(values: dict[str, Any]) -> str:
        try:
            # As Template.render, which would rewrite tracebacks that nobody sees.
            text = concat(write(_Context(environment, values)))
            _refuse_longer(len(text))
            return text
        except UndefinedError as error:
            missing = str(error)
            raise RenderError(
                f"{missing} is missing; give the lead one, or write"
                f" {{{{ {missing} | default('...') }}}}",
                missing=missing,
            ) from None
        except TemplateError as error:
            raise RenderError(str(error)) from None
        except (
            TypeError, ValueError, ArithmeticError, LookupError, RecursionError, AssertionError,
            AttributeError, MemoryError, NameError,
        ) as error:  # fmt: skip
            raise RenderError(f"a value does not fit what is done with it: {error}") from None

    return render


class _Constants(NodeTransformer):
    """Puts values where they are printed as they are, or in a link."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802 - as Jinja calls it
        node.nodes = [self._fixed(inner) for inner in node.nodes]
        return node

    def _fixed(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.Name) and node.name in self._values:
            return nodes.Const(self._values[node.name], lineno=node.lineno)
        if isinstance(node, nodes.Filter) and node.name in (HREF, URL_PART) and node.node:
            node.node = self._fixed(node.node)
        return node
