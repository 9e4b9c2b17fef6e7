"""PURE: Markdown with Jinja in it -> the template of an HTML document, and that of a plain text.

Jinja's tags become words that Markdown leaves alone, and tags again when the rest is done. So a
template is converted once, and a value is never read as Markdown.
"""

import re
from collections.abc import Iterator
from functools import cache

from css_inline import CSSInliner
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from hyperdrip.templates import HREF, URL_PART, Mistake, lex

PREHEADER, SUBJECT = "_preheader", "_subject"
HTML_END = "</div></body></html>"
CSS = """
body { margin: 0; padding: 0; background: #ffffff }
.preheader { display: none; max-height: 0; overflow: hidden }
.letter { max-width: 600px; margin: 0 auto; padding: 24px 16px;
  font: 16px/1.5 -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; color: #1f2328 }
p, ul, ol, table { margin: 0 0 16px }
ul, ol { padding-left: 24px }
li { margin: 0 0 4px }
li p { margin: 0 0 8px }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 16px }
h2 { font-size: 20px; line-height: 1.25; margin: 24px 0 12px }
h3, h4, h5, h6 { font-size: 16px; margin: 24px 0 8px }
a { color: #0b57d0 }
img { max-width: 100%; height: auto; border: 0 }
blockquote { margin: 0 0 16px; padding: 0 0 0 16px; border-left: 3px solid #d0d7de; color: #57606a }
code { font-family: Menlo, Consolas, monospace; font-size: 14px }
pre { margin: 0 0 16px; padding: 12px; background: #f6f8fa; white-space: pre-wrap }
hr { border: 0; border-top: 1px solid #d0d7de; margin: 24px 0 }
th, td { padding: 4px 12px 4px 0; text-align: left; vertical-align: top }
.footer { margin-top: 32px; font-size: 13px; color: #57606a }
"""
_HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
)


class _Words:
    """Templates in which every tag of Jinja is a word: `texts`. `restore` brings the tags back."""

    def __init__(self, *sources: str) -> None:
        self.mark = "hd"
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
            alone.sub(lambda match: f"\n{match[0]}\n", "".join(self._pieces(source)))
            for source in sources
        ]

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


@cache
def _parser() -> MarkdownIt:
    # No raw HTML, so that nothing in a file can be half an element.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


@cache
def _inliner() -> CSSInliner:
    return CSSInliner(extra_css=CSS, load_remote_stylesheets=False)


def find_mistakes(markdown: str) -> list[Mistake]:
    """List what cannot be converted in a template that is right as a template."""
    raw = [line for line, name, _ in lex(markdown) if name == "raw_begin"]
    if raw:
        return [Mistake(line, "'raw' is not for campaigns; write {{ '{{' }}") for line in raw]
    words = _Words(markdown)
    alone = list[int]()
    for token in _parser().parse(words.texts[0]):
        if token.type not in ("inline", "fence", "code_block"):
            continue
        is_bare = words.is_only_tags(token.content)
        open_levels = alone if is_bare else []
        tags = words.tags_in(token.content)
        is_fine = all(_balance(open_levels, word, token.level) for _, word in tags)
        if not is_fine or (open_levels and not is_bare):
            line, word = tags[0]
            return [Mistake(line, _TORN.format(word))]  # the others come of it
    return []


_TORN = (
    "a {{% {0} %}} and its end stand in different paragraphs; put both in one,"
    " or each on a line of its own"
)


def _balance(open_levels: list[int], word: str, level: int) -> bool:
    if word in ("if", "for"):
        open_levels.append(level)
    elif word.startswith("end"):
        return bool(open_levels) and open_levels.pop() == level
    elif word in ("else", "elif"):
        return bool(open_levels) and open_levels[-1] == level
    return True


def to_html(markdown: str, footer: str = "", *, has_preheader: bool = False) -> str:
    """Convert to the template of a document with its styles inlined; it ends with `HTML_END`.

    It prints the variables `_subject` and, with `has_preheader`, `_preheader`.
    """
    words = _Words(
        f'<div class="preheader">{{{{ {PREHEADER} }}}}</div>' if has_preheader else "",
        f"<title>{{{{ {SUBJECT} }}}}</title>",
        markdown,
        footer,
    )
    preheader, title, letter, below = words.texts
    closing = f'<div class="footer">{_body(words, below)}</div>' if footer.strip() else ""
    document = _inliner().inline(
        f"{_HEAD}{title}</head><body>{preheader}"
        f'<div class="letter">{_body(words, letter)}{closing}{HTML_END}'
    )
    if not document.endswith(HTML_END):
        raise AssertionError("a document has to end as it was written")
    return words.restore(document)


def _body(words: _Words, text: str) -> str:
    parser = _parser()
    env: dict[str, object] = {}
    tokens = list(_unwrapped(words, parser.parse(text, env)))
    for token in tokens:
        for child in token.children or ():
            for attribute in {"href", "src"} & child.attrs.keys():
                child.attrs[attribute] = words.address(str(child.attrs[attribute]))
    return str(parser.renderer.render(tokens, parser.options, env))


def _unwrapped(words: _Words, tokens: list[Token]) -> Iterator[Token]:
    """A paragraph that has only tags is no paragraph."""
    skip = False
    for index, token in enumerate(tokens):
        is_bare = token.type == "paragraph_open" and words.is_only_tags(tokens[index + 1].content)
        if is_bare:
            skip = True
            yield Token("html_block", "", 0, content=tokens[index + 1].content + "\n")
        if not skip:
            yield token
        if token.type == "paragraph_close":
            skip = False


def to_text(markdown: str) -> str:
    """Convert to the template of a text as a person would type it; blanks around it are no part."""
    words = _Words(markdown)
    tree = SyntaxTreeNode(_parser().parse(words.texts[0]))
    return words.restore(_TextWriter(words).blocks(tree.children))


class _TextWriter:
    """Writes the nodes of a document as plain text."""

    def __init__(self, words: _Words) -> None:
        self._words = words

    def blocks(self, nodes: list[SyntaxTreeNode], gap: str = "\n\n") -> str:
        """Blocks with a gap before each; tags take none, so what they leave out leaves none."""
        written = ""
        for node in nodes:
            block = self._block(node)
            is_tags = node.type == "paragraph" and self._words.is_only_tags(block)
            written += block.strip() if is_tags else (gap if written else "") + block
        return written

    def _block(self, node: SyntaxTreeNode) -> str:
        match node.type:
            case "paragraph" | "heading" | "th" | "td":
                return self._line(node)
            case "bullet_list" | "ordered_list":
                return self._list(node)
            case "blockquote":
                return _indented(self.blocks(node.children), "> ", "> ")
            case "fence" | "code_block":
                return _indented(node.content.rstrip("\n"), "    ", "    ")
            case "hr":
                return "-" * 20
            case "table":
                rows = [row for part in node.children for row in part.children]
                return "\n".join(" | ".join(map(self._block, row.children)) for row in rows)
        raise AssertionError(f"a block of an unknown kind: {node.type}")

    def _list(self, node: SyntaxTreeNode) -> str:
        is_tight = all(
            part.hidden
            for item in node.children
            for part in item.children
            if part.type == "paragraph"
        )
        start = int(node.attrs.get("start", 1))
        items = list[str]()
        for number, item in enumerate(node.children, start):
            bullet = f"{number}. " if node.type == "ordered_list" else "- "
            inner = self.blocks(item.children, "\n" if is_tight else "\n\n")
            items.append(_indented(inner, bullet, " " * len(bullet)))
        return ("\n" if is_tight else "\n\n").join(items)

    def _line(self, node: SyntaxTreeNode) -> str:
        children = node.children[0].children if node.children else []
        if node.type == "paragraph" and len(children) == 1 and children[0].type == "link":
            label, address = self._link(children[0])
            return f"{label}:\n{address}" if label else address
        return "".join(map(self._inline, children))

    def _inline(self, node: SyntaxTreeNode) -> str:
        match node.type:
            case "text" | "code_inline":
                return node.content
            case "softbreak":
                return " "  # with values in them, the lines of the file have any length
            case "hardbreak":
                return "\n"
            case "image":
                return node.content
            case "link":
                label, address = self._link(node)
                return f"{label} ({address})" if label else address
        return "".join(map(self._inline, node.children))

    def _link(self, node: SyntaxTreeNode) -> tuple[str, str]:
        """The words of a link, unless they are its address; and the address."""
        label = "".join(map(self._inline, node.children))
        href = str(node.attrs.get("href", ""))
        address = self._words.address(href.removeprefix("mailto:"))
        is_plain = label in (href, href.removeprefix("mailto:"))
        return ("" if is_plain else label), address


def _indented(text: str, first: str, others: str) -> str:
    lines = text.split("\n")
    return "\n".join(
        (first if number == 0 else others) + line if line or number == 0 else others.rstrip()
        for number, line in enumerate(lines)
    )
