"""How findings of a check are told."""

from typing import Any, Final

from zfuse.maintenance.fsck_findings import Finding

_SHOWN: Final = 5


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return the JSON description of a finding, with all chunks that it hits."""
    return {
        "object": finding.object,
        "problem": finding.problem,
        "path": finding.path,
        "refs": list(finding.refs),
        "chunks": None if finding.chunks is None else finding.chunks.tolist(),
    }


def finding_line(finding: Finding) -> str:
    """Return one line: object, problem, node, some chunks, and refs."""
    text = f"{finding.object}: {finding.problem}"
    if finding.path is not None:
        text += f": {finding.path}"
    if finding.chunks is not None:
        shown = ["/".join(map(str, coords)) or "()" for coords in finding.chunks[:_SHOWN].tolist()]
        more = len(finding.chunks) - len(shown)
        noun = "chunk" if len(finding.chunks) == 1 else "chunks"
        text += f" {noun} {', '.join(shown)}{f' and {more} more' if more else ''}"
    return f"{text} ({', '.join(finding.refs)})" if finding.refs else text
