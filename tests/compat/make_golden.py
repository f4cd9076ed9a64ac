"""Make the golden repositories of one version of icechunk, with its own report of each.

    PYTHON -m tests.compat.make_golden tests/data

where PYTHON has icechunk 1.1.21 first, and then one with 2.3.0: that one also upgrades
what the older made. Never run by tests: the golden files stay as their writers left them.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import icechunk

from tests.compat import golden_content
from tests.compat.golden_report import report

OLD, NEW = "1.1.21", "2.3.0"


def main(arguments: list[str]) -> None:
    """Make what the running version of icechunk is for."""
    (data,) = map(Path, arguments)
    match icechunk.__version__:
        case "1.1.21":
            _make(data / f"icechunk-{OLD}-spec1", spec=1, zero_length=True)
        case "2.3.0":
            _make(data / f"icechunk-{NEW}-spec1", spec=1, zero_length=False)
            _make(data / f"icechunk-{NEW}-spec2", spec=2, zero_length=False)
            _upgrade(data / f"icechunk-{OLD}-spec1", data / f"icechunk-{OLD}-upgraded-by-{NEW}")
        case other:
            sys.exit(f"icechunk {other}: golden repositories are made by {OLD} and {NEW}")


def _make(directory: Path, *, spec: int, zero_length: bool) -> None:
    storage = _fresh(directory)
    options: dict[str, Any] = {} if icechunk.__version__ == OLD else {"spec_version": spec}
    modern = spec > 1
    config = golden_content.modern_configuration() if modern else golden_content.configuration()
    repo = icechunk.Repository.create(storage, config=config, **options)
    repo.save_config()
    odd = golden_content.fill(repo, zero_length=zero_length)
    if modern:
        for kind, refs in golden_content.fill_more(repo).items():
            odd[kind] |= refs
    _write_report(directory, storage, odd)


def _upgrade(source: Path, directory: Path) -> None:
    storage = _fresh(directory)
    repository = directory / "repository"
    shutil.copytree(source / "repository", repository)
    for encoded in (repository / "refs").glob("*%*"):
        shutil.rmtree(encoded)  # the upgrade gives up on refs that it cannot look up
    repo = icechunk.Repository.open(storage)
    icechunk.upgrade_icechunk_repository(repo, dry_run=False)
    golden_content.change_after_upgrade(icechunk.Repository.open(storage))
    _write_report(directory, storage, {})


def _fresh(directory: Path) -> icechunk.Storage:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return icechunk.local_filesystem_storage(str(directory / "repository"))


def _write_report(directory: Path, storage: icechunk.Storage, odd: dict[str, Any]) -> None:
    told = report(icechunk.Repository.open(storage), odd)
    text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False)
    text = re.sub(r"\{\n([^\[\]{}]*?)\}", _on_one_line, text)
    text = re.sub(r"\[\n([^\[\]{}]*?)\]", _on_one_line, text)
    (directory / "report.json").write_text(text + "\n")


def _on_one_line(found: re.Match[str]) -> str:
    return found[0][0] + re.sub(r"\s*\n\s*", " ", found[1]).strip() + found[0][-1]


if __name__ == "__main__":
    main(sys.argv[1:])
