"""PURE: Markdown with Jinja in it -> the template of an HTML document with its styles inlined."""

from collections.abc import Iterator, Sequence
from functools import cache

from css_inline import CSSInliner
from markdown_it import MarkdownIt
from markdown_it.token import Token

from hyperdrip.template_words import Words, markdown_parser, parse
from hyperdrip.templates import SCHEMES, Mistake, lex

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
    '<!DOCTYPE html><html><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
)
_TORN = (
    "a {{% {0} %}} and its end do not stand in the same place; put both in one paragraph and"
    " between the same * or brackets, or each on a line of its own"
)


@cache
def _inliner() -> CSSInliner:
    return CSSInliner(extra_css=CSS, load_remote_stylesheets=False)


@cache
def _html_finder() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True})


def find_mistakes(markdown: str) -> list[Mistake]:
    """List what cannot be converted in a template that is right as a template."""
    raw = [line for line, name, _ in lex(markdown) if name == "raw_begin"]
    if raw:
        return [Mistake(line, "'raw' is not for campaigns; write {{ '{{' }}") for line in raw]
    words = Words(markdown)
    tokens = markdown_parser().parse(words.texts[0])
    found = [*_find_torn(words, tokens)][:1]  # the others come of it
    found += _find_addresses(words, tokens, markdown)
    found += _find_html(words, markdown)
    return sorted(found)


def _find_torn(words: Words, tokens: list[Token]) -> Iterator[Mistake]:
    alone = list[tuple[str, ...]]()  # where each tag that stands alone was opened
    for within, token in _places((), tokens):
        if token.type not in ("inline", "fence", "code_block"):
            continue
        is_bare = words.is_only_tags(token.content)
        opened = alone if is_bare else []
        tags = [
            (place, *tag) for place, text in _texts(within, token) for tag in words.tags_in(text)
        ]
        is_fine = all(_balance(opened, word, place) for place, _, word in tags)
        if not is_fine or (opened and not is_bare):
            _, line, word = tags[0]
            yield Mistake(line, _TORN.format(word))


def _places(
    within: tuple[str, ...], tokens: Sequence[Token]
) -> Iterator[tuple[tuple[str, ...], Token]]:
    """Each token, and in what it stands."""
    for token in tokens:
        if token.nesting == -1:
            within = within[:-1]
        yield within, token
        if token.nesting == 1:
            within = (*within, token.type)


def _texts(within: tuple[str, ...], token: Token) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each text of a block, with the place in which a tag and its end may stand."""
    if token.children is None:
        yield (*within, "info"), token.info
        yield within, token.content
    for number, (place, child) in enumerate(_places(within, token.children or ())):
        for name, value in child.attrs.items():
            yield (*place, str(number), name), str(value)
        is_own = child.type in ("code_inline", "image")
        yield (*place, str(number)) if is_own else place, child.content


def _balance(opened: list[tuple[str, ...]], word: str, place: tuple[str, ...]) -> bool:
    if word in ("if", "for"):
        opened.append(place)
    elif word.startswith("end"):
        return bool(opened) and opened.pop() == place
    elif word in ("else", "elif"):
        return bool(opened) and opened[-1] == place
    return True


def _find_addresses(words: Words, tokens: list[Token], markdown: str) -> Iterator[Mistake]:
    for token in tokens:
        for child in token.children or ():
            for name in {"href", "src"} & child.attrs.keys():
                href = str(child.attrs[name])
                start = words.word.match(href)
                line = _line_of(markdown, words.restore(href))
                if start and start[2] == "t":
                    yield Mistake(line, "an address begins with a {% tag %}; put the link into it")
                elif not start and not href.lower().startswith(SCHEMES):
                    shown = words.restore(href)[:80]
                    yield Mistake(
                        line, f"{shown!r} is no address for a mail; it has to begin with https://"
                    )


def _find_html(words: Words, markdown: str) -> Iterator[Mistake]:
    for token in _html_finder().parse(words.texts[0]):
        for part in (token, *(token.children or ())):
            if part.type not in ("html_block", "html_inline") or words.mark in part.content:
                continue
            shown = part.content.strip().split("\n")[0]
            if not shown.startswith("</"):
                text = f"{shown[:80]!r} is HTML; write Markdown, or \\< where the sign is meant"
                yield Mistake(_line_of(markdown, shown), text)


def _line_of(markdown: str, text: str) -> int:
    return markdown.count("\n", 0, max(0, markdown.find(text))) + 1


def to_html(markdown: str, footer: str = "", *, has_preheader: bool = False) -> str:
    """Convert to the template of a document; it ends with `HTML_END`.

    It prints the variables `_subject` and, with `has_preheader`, `_preheader`.
    """
    words = Words(
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
    assert document.endswith(HTML_END), "a document has to end as it was written"
    return words.restore(document)


def _body(words: Words, text: str) -> str:
    parser = markdown_parser()
    tokens = parse(words, text)
    for token in tokens:
        for child in token.children or ():
            for name in {"href", "src"} & child.attrs.keys():
                child.attrs[name] = words.address(str(child.attrs[name]))
    return str(parser.renderer.render(tokens, parser.options, {}))
