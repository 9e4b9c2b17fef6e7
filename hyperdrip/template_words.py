"""PURE: templates in which each tag of Jinja is a word, which Markdown and HTML leave alone.

So a template is converted once, and a value is never read as Markdown.
"""

import re
from collections.abc import Iterator
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from hyperdrip.templates import HREF, URL_PART, lex

MARK = "jinjatag"
_COMMENT = "\x00"  # which no template has
_COMMENT_LINES = re.compile(rf"^[ \t]*(?:{_COMMENT}[ \t]*)+(?:\n|\Z)|{_COMMENT}", re.MULTILINE)


class Words:
    """Templates whose tags are words: `texts`. `restore` brings the tags back."""

    def __init__(self, *sources: str) -> None:
        self.mark = MARK
        while any(self.mark in source for source in sources):
            self.mark += "x"
        self.inner = list[str]()
        self.lines = list[int]()
        # The last letter says how it stands there: v value, t tag, h address, u part of one.
        self.word = re.compile(rf"{self.mark}(\d+)([vthu])")
        self.tags = re.compile(rf"(?:\s*{self.mark}\d+t)+\s*")
        alone = re.compile(rf"^(?:[ \t]*{self.mark}\d+t)+[ \t]*$", re.MULTILINE)
        # A line that has only tags becomes a paragraph of its own.
        self.texts = [
            alone.sub(lambda match: f"\n{match[0]}\n", self._in_words(source)) for source in sources
        ]

    def _in_words(self, source: str) -> str:
        return _COMMENT_LINES.sub("", "".join(self._pieces(source)))

    def _pieces(self, source: str) -> Iterator[str]:
        kind = ""
        inner = list[str]()
        for line, name, text in lex(source):
            if name in ("variable_begin", "block_begin", "comment_begin"):
                kind, inner = name, []
            elif name in ("variable_end", "block_end"):
                yield f"{self.mark}{len(self.inner)}{'t' if kind == 'block_begin' else 'v'}"
                self.inner.append("".join(inner).strip())
                self.lines.append(line)
                kind = ""
            elif name == "comment_end":
                yield _COMMENT
                kind = ""
            elif kind:
                inner.append(text)
            else:
                yield text

    def address(self, href: str) -> str:
        """The words of an address, marked as such."""

        def as_part(match: re.Match[str]) -> str:
            if match[2] != "v":
                return match[0]
            return f"{self.mark}{match[1]}{'u' if match.start() else 'h'}"

        return self.word.sub(as_part, href)

    def is_only_tags(self, text: str) -> bool:
        """Whether there is nothing to see in `text`."""
        return self.tags.fullmatch(text) is not None

    def tags_in(self, text: str) -> list[tuple[int, str]]:
        """Line and first word, such as `if` or `endif`, of each tag."""
        numbers = [int(match[1]) for match in self.word.finditer(text) if match[2] == "t"]
        return [(self.lines[number], self.inner[number].split()[0]) for number in numbers]

    def restore(self, text: str) -> str:
        """The template of `text`, in which no other brace means anything."""

        def back(match: re.Match[str]) -> str:
            if match[0] == "{":
                return "{{ '{' }}"
            inner = self.inner[int(match[1])]
            if match[2] == "t":
                return f"{{% {inner} %}}"
            if match[2] == "v":
                return f"{{{{ {inner} }}}}"
            return f"{{{{ ({inner}) | {HREF if match[2] == 'h' else URL_PART} }}}}"

        return re.sub(rf"{self.word.pattern}|\{{", back, text)


def without_tag_lines(source: str) -> str:
    """The template of a plain text, in which a line that has only tags is no line."""
    words = Words(source)
    lines = re.compile(rf"^\n[ \t]*((?:{words.mark}\d+t[ \t]*)+)\n(?:\n|\Z)", re.MULTILINE)
    return words.restore(lines.sub(r"\1", words.texts[0]))


@cache
def markdown_parser() -> MarkdownIt:
    """The Markdown of campaigns: without raw HTML, so nothing in a file is half an element."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def parse(words: Words, text: str) -> list[Token]:
    """The blocks of one of the texts; tags that stand alone are an `html_block`, its only kind.

    Lists with nothing but tags between them are one list, in which the tags stand.
    """
    return _with_joined_lists(words, list(_without_bare_paragraphs(words, text)))


def _without_bare_paragraphs(words: Words, text: str) -> Iterator[Token]:
    tokens = markdown_parser().parse(text)
    skip = False
    for index, token in enumerate(tokens):
        if token.type == "paragraph_open" and words.is_only_tags(tokens[index + 1].content):
            skip = True
            yield Token("html_block", "", 0, content=tokens[index + 1].content.strip())
        if not skip:
            yield token
        if token.type == "paragraph_close":
            skip = False


def _with_joined_lists(words: Words, tokens: list[Token]) -> list[Token]:
    elements = list(_elements(tokens))
    start = 0
    while start < len(elements):
        end = _end_of_list(words, elements[start : _end_of_run(elements, start)])
        if end:
            elements[start : start + end] = [_joined(elements[start : start + end])]
        start += 1
    joined = list[Token]()
    for element in elements:
        inner = _with_joined_lists(words, element[1:-1]) if len(element) > 1 else []
        joined += [element[0], *inner, *element[1:][-1:]]
    return joined


def _elements(tokens: list[Token]) -> Iterator[list[Token]]:
    """Each block with all that is in it."""
    element = list[Token]()
    depth = 0
    for token in tokens:
        element.append(token)
        depth += token.nesting
        if depth == 0:
            yield element
            element = []


def _end_of_run(elements: list[list[Token]], start: int) -> int:
    """Where lists of one kind, and tags around them, end."""
    kinds = {"html_block"}
    for index in range(start, len(elements)):
        kind = elements[index][0].type
        if kind in ("bullet_list_open", "ordered_list_open") and len(kinds) == 1:
            kinds.add(kind)
        if kind not in kinds:
            return index
    return len(elements)


def _end_of_list(words: Words, run: list[list[Token]]) -> int:
    """How many of these lists and tags are one list, as many as can be; 0: none of them."""
    first = words.tags_in(run[0][0].content) if run and len(run[0]) == 1 else []
    # A list of which all may be left out is better left out as a whole.
    needs_list_at_end = bool(first) and first[0][1] != "for"
    end, depth, has_list, has_tags = 0, 0, False, False
    for count, element in enumerate(run, 1):
        is_list = len(element) > 1
        has_list, has_tags = has_list or is_list, has_tags or not is_list
        for _, word in [] if is_list else words.tags_in(element[0].content):
            depth += (word in ("if", "for")) - word.startswith("end")
            if depth < (1 if word in ("else", "elif") else 0):
                return end  # it belongs to what stands before the run
        if depth == 0 and has_list and has_tags and (is_list or not needs_list_at_end):
            end = count
    return end


def _joined(run: list[list[Token]]) -> list[Token]:
    lists = [element for element in run if len(element) > 1]
    items = [token for element in run for token in (element[1:-1] or element)]
    return [lists[0][0], *items, lists[-1][-1]]
