"""The store fails while a mount is synced: nothing is lost, and nothing is committed twice."""

import contextlib
import subprocess
import sys

import icechunk
import pytest

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import s3_place
from tests.faults.killing import chunk, files_below
from tests.mount.mounting import END_S, mounting
from tests.repo.editing import official_keys
from tests.servers.fault_proxy import Fault, fault_proxy

pytestmark = [pytest.mark.fuse, pytest.mark.compat]

LONG = pytest.mark.long
BASE = {"zarr.json": GROUP, "a/zarr.json": array_document((9,), (1,)), "a/c/0": chunk(0)}
MINE = {"a/c/1": chunk(1), "a/c/2": chunk(2), "a/c/3": b"inline"}
LATER = {"a/c/4": chunk(4)}
DOWN = [Fault.RESET, *(pytest.param(f, marks=LONG) for f in (Fault.UNAVAILABLE, Fault.HANG))]
DEADLINE_S = "6"
"""Of each call of the store: the tests wait it out, and no call of a busy server needs as long."""
SPEC_VERSIONS = [pytest.param(1, marks=LONG), 2]


class Faulty:
    """A mount of a repository whose store can fail."""

    def __init__(self, place, proxy, environment):
        self.place, self.proxy, self.environment = place, proxy, environment
        self.repo = icechunk.Repository.open(place.storage)
        self.mounted = None

    @contextlib.contextmanager
    def mounting(self):
        arguments = ("--rw", "--deadline", DEADLINE_S, "--journal", str(self.place.data / "state"))
        directory = self.place.data / "m"
        with mounting(
            self.place.url, directory, "--force-path-style", *arguments, env=self.environment
        ) as self.mounted:
            yield

    @property
    def branch(self):
        return self.mounted.path / "branch" / "main"

    def write(self, files):
        for path, data in files.items():
            (self.branch / path).parent.mkdir(exist_ok=True)
            (self.branch / path).write_bytes(data)

    def sync(self, message):
        """Sync by command; return its exit code and what it said."""
        command = [sys.executable, "-m", "zfuse", "sync", str(self.branch), "-m", message]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def committed(self):
        """Return the messages since the base, and what the branch holds."""
        messages = [info.message for info in self.repo.ancestry(branch="main")]
        return messages[:-2], official_keys(self.repo, self.repo.lookup_branch("main"))

    def fail(self, plan):
        self.proxy.plan = plan

    def heal(self):
        self.proxy.plan = lambda _request: None


@pytest.fixture
def begin(s3_server, tmp_path):
    """A function that makes a repository and returns how to mount it."""
    with contextlib.ExitStack() as stack:

        def make(spec_version):
            place = s3_place(
                tmp_path,
                endpoint=s3_server.endpoint,
                bucket=s3_server.make_bucket(),
                prefix="r",
                key=s3_server.access_key,
                secret=s3_server.secret_key,
            )
            repo = icechunk.Repository.create(place.storage, spec_version=spec_version)
            session = repo.writable_session("main")
            put_all(session.store, BASE)
            session.commit("base")
            proxy = stack.enter_context(fault_proxy(s3_server.endpoint))
            return Faulty(place, proxy, s3_server.environment() | {"AWS_ENDPOINT_URL": proxy.url})

        yield make


def publishes(request):
    """Tell whether a request is the write that makes a commit visible."""
    path = request.target.partition("?")[0]
    return request.method == "PUT" and path.endswith(("/r/repo", "/ref.json"))


@pytest.mark.parametrize("fault", DOWN)
def test_the_store_is_down(begin, fault):
    faulty = begin(2)
    with faulty.mounting():
        faulty.write(MINE)
        faulty.fail(lambda _request: fault)
        status, said = faulty.sync("mine")
        assert (status, len(said.splitlines())) == (75, 1), said
        faulty.write(LATER)
        found = {path: (faulty.branch / path).read_bytes() for path in MINE | LATER}
        assert found == MINE | LATER
        faulty.heal()
        assert faulty.committed() == ([], BASE)
        assert faulty.sync("mine")[0] == 0
        assert faulty.committed() == (["mine"], BASE | MINE | LATER)
        assert files_below(faulty.branch) == BASE | MINE | LATER


@pytest.mark.parametrize("spec_version", SPEC_VERSIONS)
def test_the_store_goes_down_at_the_last_write(begin, spec_version):
    faulty = begin(spec_version)
    with faulty.mounting():
        faulty.write(MINE)
        faulty.fail(lambda request: Fault.UNAVAILABLE if publishes(request) else None)
        status, said = faulty.sync("mine")
        assert status == 75, said
        faulty.heal()
        assert faulty.sync("mine")[0] == 0
        assert faulty.committed() == (["mine"], BASE | MINE)
        assert "nothing to commit" in faulty.sync("again")[1]


def lost_from_the_last_write_on(fault):
    """Plan a publishing write that lands, though its answer and all after it are lost."""
    lost = []

    def plan(request):
        if publishes(request) and not lost:
            lost.append(request)
            return Fault.LOST
        return fault if lost else None

    return plan


@pytest.mark.parametrize("spec_version", SPEC_VERSIONS)
@pytest.mark.parametrize("writes", [pytest.param(False, marks=LONG), True])
def test_the_answer_to_the_last_write_is_lost(begin, spec_version, writes):
    faulty = begin(spec_version)
    with faulty.mounting():
        faulty.write(MINE)
        faulty.fail(lost_from_the_last_write_on(Fault.RESET))
        status, said = faulty.sync("mine")
        assert (status, len(said.splitlines())) == (75, 1), said
        faulty.heal()
        assert faulty.committed() == (["mine"], BASE | MINE)
        if writes:
            faulty.write(LATER)
        status, said = faulty.sync("second")
        assert status == 0, said
        messages = ["second", "mine"] if writes else ["mine"]
        assert faulty.committed() == (messages, BASE | MINE | (LATER if writes else {}))
        assert files_below(faulty.branch) == faulty.committed()[1]


def test_the_answer_alone_is_lost(begin):
    faulty = begin(2)
    with faulty.mounting():
        faulty.write(MINE)
        faulty.fail(lost_from_the_last_write_on(None))
        assert faulty.sync("mine")[0] == 0
        assert faulty.committed() == (["mine"], BASE | MINE)


@pytest.mark.parametrize("spec_version", SPEC_VERSIONS)
def test_the_daemon_dies_after_the_answer_was_lost(begin, spec_version):
    faulty = begin(spec_version)
    with faulty.mounting():
        faulty.write(MINE)
        faulty.fail(lost_from_the_last_write_on(Fault.RESET))
        assert faulty.sync("mine")[0] == 75
        faulty.write(LATER)
        faulty.mounted.daemon.kill()
        faulty.mounted.daemon.wait(END_S)
    faulty.heal()
    with faulty.mounting():
        assert files_below(faulty.branch) == BASE | MINE | LATER
        status, said = faulty.sync("second")
        assert status == 0, said
        assert faulty.committed() == (["second", "mine"], BASE | MINE | LATER)
