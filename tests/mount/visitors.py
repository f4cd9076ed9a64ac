"""Who is inside a mount while its branches move: shells and readers."""

import subprocess
import threading

CHUNK = 300_000  # bytes; version n has n more


class Shell:
    """A shell that somebody left running in a directory of the mount."""

    def __init__(self, directory):
        self._process = subprocess.Popen(
            ["bash"], cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, command):
        """Run a command and return what it printed, as words, and its exit code."""
        self._process.stdin.write(f'{command}; S=$?; echo; echo "<$S>"\n')
        self._process.stdin.flush()
        lines = []
        while not (line := self._process.stdout.readline()).startswith("<"):
            assert line, "the shell ended"
            lines.append(line)
        return "".join(lines).split(), int(line.strip("<>\n"))

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class Reader(threading.Thread):
    """Reads chunks that hold nothing but their version, over and over."""

    def __init__(self, chunks):
        super().__init__(daemon=True)
        self.chunks = chunks
        self.faults = []
        self.done = threading.Event()
        self.start()

    def run(self):
        newest = dict.fromkeys(self.chunks, 0)
        while not self.done.is_set():
            for chunk, newest_seen in newest.items():
                data = chunk.read_bytes()
                version = data[0]
                if data != bytes([version]) * (CHUNK + version):
                    self.faults.append(f"{chunk} is torn: {set(data)}, {len(data)} bytes")
                if version < newest_seen:
                    self.faults.append(f"{chunk} went back from {newest_seen} to {version}")
                newest[chunk] = version
