"""What a command answered."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Exit code, and what was printed."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one object that --json printed."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def json_lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def says(self, *words):
        """Assert that it succeeded and printed all *words*."""
        assert self.status == 0, self.err
        assert self.err == ""
        for word in words:
            assert word in self.out, self.out

    def fails(self, status, *words):
        """Assert that it failed with one line on stderr that has all *words*."""
        assert self.status == status, self.err
        assert self.err.startswith("zfuse: ")
        assert len(self.err.splitlines()) == 1
        for word in words:
            assert word in self.err
