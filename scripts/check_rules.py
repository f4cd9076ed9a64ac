"""Rules of this project that no linter knows: prints each breach, exits 1 if there is one.

* no module is over 450 lines (generated ones say so in their name);
* no test is skipped or expected to fail without a reason.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_LINES = 450
REASONED = {"skip", "skipif", "xfail", "importorskip"}


def long_modules(paths: list[Path]) -> Iterator[str]:
    """Yield a line for every module that is too long."""
    for path in paths:
        lines = len(path.read_text().splitlines())
        if lines > MAX_LINES and "generated" not in path.name:
            yield f"{path}: {lines} lines, more than {MAX_LINES}: cut it by concept"


def unreasoned_skips(paths: list[Path]) -> Iterator[str]:
    """Yield a line for every pytest skip or xfail that gives no reason."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if _skips(node) and not _has_reason(node):
                yield f"{path}:{node.lineno}: skipped or xfailed without a reason"


def _skips(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Attribute) and node.attr in REASONED and _is_pytest(node.value)


def _is_pytest(node: ast.AST) -> bool:
    return ast.unparse(node) in {"pytest", "pytest.mark", "mark"}


def _has_reason(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return True  # judged where it is called; a bare one is found below
    assert isinstance(node, ast.Call)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    positional = name in {"skip", "xfail"} and bool(node.args)
    return positional or any(keyword.arg == "reason" for keyword in node.keywords)


def bare_marks(paths: list[Path]) -> Iterator[str]:
    """Yield a line for every mark that is used without calling it, so without a reason."""
    for path in paths:
        tree = ast.parse(path.read_text())
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and id(node) not in called and _skips(node):
                yield f"{path}:{node.lineno}: skipped or xfailed without a reason"


def main() -> int:
    """Check the tree below the current directory."""
    modules = [p for top in ("zfuse", "tests", "scripts") for p in Path(top).rglob("*.py")]
    tests = [p for p in modules if p.parts[0] == "tests"]
    breaches = [*long_modules(modules), *unreasoned_skips(tests), *bare_marks(tests)]
    print("\n".join(breaches) or f"{len(modules)} modules: ok")
    return bool(breaches)


if __name__ == "__main__":
    sys.exit(main())
