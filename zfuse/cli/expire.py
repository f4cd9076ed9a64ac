"""``zfuse expire``."""

from dataclasses import replace
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.cutoff import (
    Cutoff,
    expiration_cutoff,
    journal_option,
    older_than_option,
    parse_cutoff,
    sessions_of,
)
from zfuse.cli.options import storage_options
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.target import Target, opened
from zfuse.format.expiration import Expiration, ExpirationRule
from zfuse.maintenance.expire import apply_expiration, plan_expiration
from zfuse.repo.publish import now_us
from zfuse.repo.repository import Repository


@click.command(epilog="Example: zfuse expire s3://bucket/repo --older-than 90d --dry-run")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@older_than_option
@click.option("--delete-expired-branches", is_flag=True, help="Branches, too, but main.")
@click.option("--delete-expired-tags", is_flag=True, help="Tags, too.")
@click.option("--dry-run", is_flag=True, help="Tell what would expire, and change nothing.")
@journal_option
@storage_options
@output.as_json
def command(
    *,
    target: str | None,
    older_than: str,
    delete_expired_branches: bool,
    delete_expired_tags: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Take snapshots older than a moment out of the history.

    The first snapshot and the tips of branches and tags stay, and every branch reads as before.
    Branches and tags whose tip is that old are deleted on demand. What expired is stored until
    zfuse gc collects it. Where a session on this machine began from an old snapshot, that one
    and all later ones stay, as does its branch.
    """
    moment = parse_cutoff(older_than, now_us())
    rule = ExpirationRule(moment, delete_expired_branches, delete_expired_tags)
    found = find_repository(target, flags, "zfuse expire REPO --older-than TIME")
    expired, cutoff = trio.run(_expire, found, rule, dry_run)
    if as_json:
        output.print_json({**_facts(expired), **cutoff.facts(), "dry_run": dry_run})
        return
    cutoff.print()
    _print(expired, dry_run=dry_run)


async def _expire(
    target: Target,
    rule: ExpirationRule,
    dry_run: bool,  # noqa: FBT001
) -> tuple[Expiration, Cutoff]:
    async with opened(target) as repository:
        sessions = await trio.to_thread.run_sync(sessions_of, target, repository)
        cutoff = await expiration_cutoff(repository, rule.older_than, sessions)
        kept = frozenset(session.branch for session in sessions)
        rule = replace(rule, older_than=cutoff.at, kept_branches=kept)
        work = plan_expiration if dry_run else apply_expiration
        return _without_tips(await work(repository, rule), repository), cutoff


def _without_tips(expired: Expiration, repository: Repository) -> Expiration:
    """Return *expired* without tips that stay: in version 1 the engine counts these, too."""
    tips = {tip for name, tip in repository.branches.items() if name not in expired.branches}
    tips |= {tip for name, tip in repository.tags.items() if name not in expired.tags}
    return replace(expired, snapshots=expired.snapshots - tips)


def _facts(expired: Expiration) -> dict[str, list[str]]:
    return {
        "snapshots": sorted(map(str, expired.snapshots)),
        "branches": sorted(expired.branches),
        "tags": sorted(expired.tags),
    }


def _print(expired: Expiration, *, dry_run: bool) -> None:
    begin = "would expire" if dry_run else "expired"
    print(f"{begin} {output.count(len(expired.snapshots), 'snapshot')}")
    gone = [*(f"branch {n}" for n in expired.branches), *(f"tag {n}" for n in expired.tags)]
    for name in sorted(gone):
        print(f"  {'would delete' if dry_run else 'deleted'} the {output.plain(name)}")
    if expired.snapshots and not dry_run:
        print("  what they alone need is stored until zfuse gc")
