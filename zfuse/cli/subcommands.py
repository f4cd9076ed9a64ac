"""Commands that have commands below them: ``zfuse branch create``."""

import difflib

import click


class Subcommands(click.Group):
    """A group that names the nearest command where one is written wrong."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* start with, or fail with the nearest name."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands, 1)
            known = ", ".join(self.commands)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {known}"
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)
