import mmap
import subprocess
import sys

import pytest

from zfuse.daemon.users import users_of

WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def start():
    running = []

    def start(code, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **options,
        )
        running.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in running:
        process.communicate()


def test_names_who_works_in_a_directory_or_has_a_file_open_or_mapped(tmp_path, start):
    file = tmp_path / "data"
    file.write_bytes(bytes(mmap.PAGESIZE))
    inside = start(WAIT, cwd=tmp_path)
    reader = start(f"f = open({str(file)!r}); {WAIT}")
    mapper = start(
        f"import mmap, os; f = os.open({str(file)!r}, os.O_RDONLY);"
        f"m = mmap.mmap(f, 0, prot=mmap.PROT_READ); os.close(f); {WAIT}"
    )
    found = {user.pid: user.what for user in users_of(tmp_path)}
    assert found[inside.pid] == "working directory"
    assert found[reader.pid] == f"open file {file}"
    # Python's mmap keeps a descriptor of its own.
    assert found[mapper.pid].endswith(f"file {file}")


def test_a_neighbour_with_a_longer_name_is_not_inside(tmp_path, start):
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt2").mkdir()
    start(WAIT, cwd=tmp_path / "mnt2")
    assert users_of(tmp_path / "mnt") == []


def test_this_process_is_left_out(tmp_path):
    with open(tmp_path / "data", "w"):
        assert users_of(tmp_path) == []


def test_says_it_in_words(tmp_path, start):
    process = start(WAIT, cwd=tmp_path)
    (user,) = users_of(tmp_path)
    assert str(user) == f"{user.name} (pid {process.pid}, working directory)"
