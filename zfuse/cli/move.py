"""``zfuse move``, another name of ``zfuse mv``."""

import copy

from zfuse.cli.mv import command as mv

command = copy.copy(mv)
command.name = "move"
command.epilog = 'Example: zfuse move s3://bucket/repo air old/air -m "put air away"'
