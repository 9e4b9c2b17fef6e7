"""PURE: Markdown with Jinja in it -> the template of a text as a person would type it."""

from markdown_it.tree import SyntaxTreeNode

from hyperdrip.template_words import Words, parse


def to_text(markdown: str) -> str:
    """Convert; blanks around it are no part of the text."""
    words = Words(markdown)
    tree = SyntaxTreeNode(parse(words, words.texts[0]))
    return words.restore(_TextWriter(words).blocks(tree.children))


class _TextWriter:
    """Writes the nodes of a document as plain text."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def blocks(self, nodes: list[SyntaxTreeNode], gap: str = "\n\n") -> str:
        """Blocks with a gap before each; tags take none, so what they leave out leaves none."""
        written = ""
        for node in nodes:
            if node.type == "html_block":
                written += node.content
            else:
                written += gap.removesuffix(_own_gap(node)) if written else ""
                written += self._block(node)
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
        assert node.type == "table", node.type
        rows = [row for part in node.children for row in part.children]
        return "\n".join(" | ".join(map(self._block, row.children)) for row in rows)

    def _list(self, node: SyntaxTreeNode) -> str:
        gap = _gap_of_items(node)
        number = int(node.attrs.get("start", 1))
        written = ""
        for item in node.children:
            if item.type == "html_block":
                written += item.content
                continue
            bullet = f"{number}. " if node.type == "ordered_list" else "- "
            number += 1
            inner = self.blocks(item.children, gap)
            written += (gap if written else "") + _indented(inner, bullet, " " * len(bullet))
        return written

    def _line(self, node: SyntaxTreeNode) -> str:
        children = node.children[0].children if node.children else []
        if node.type == "paragraph" and len(children) == 1 and children[0].type == "link":
            label, address = self._link(children[0])
            colon = "" if label.endswith((".", "!", "?", ":")) else ":"
            return f"{label}{colon}\n{address}" if label else address
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


def _gap_of_items(node: SyntaxTreeNode) -> str:
    blocks = [block for item in node.children for block in item.children]
    is_tight = all(block.hidden for block in blocks if block.type == "paragraph")
    return "\n" if is_tight else "\n\n"


def _own_gap(node: SyntaxTreeNode) -> str:
    """What stands before each item of a list that begins with tags, so before the first, too."""
    is_list = node.type in ("bullet_list", "ordered_list")
    return _gap_of_items(node) if is_list and node.children[0].type == "html_block" else ""


def _indented(text: str, first: str, others: str) -> str:
    lines = text.split("\n")
    return "\n".join(
        (first if number == 0 else others) + line if line or number == 0 else others.rstrip()
        for number, line in enumerate(lines)
    )
