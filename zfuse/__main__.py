"""``python -m zfuse``."""

from zfuse.cli.main import main

main()
