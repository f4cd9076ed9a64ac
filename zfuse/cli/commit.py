"""``zfuse commit``, another name of ``zfuse sync``."""

import copy

from zfuse.cli.sync import command as sync

command = copy.copy(sync)
command.name = "commit"
command.epilog = 'Example: zfuse commit /mnt/repo/branch/main -m "add June"'
