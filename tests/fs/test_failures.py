import errno

from zfuse.byterange import ByteRange
from zfuse.fs.failures import REMEMBERED_S, RecentFailures
from zfuse.fs.filesystem import Handle


class Clock:
    seconds = 100.0

    def __call__(self):
        return self.seconds


def test_a_failure_is_remembered_for_its_bytes_its_file_and_a_moment():
    clock = Clock()
    failures = RecentFailures(clock)
    failures.note(Handle(1), ByteRange(10, 20), errno.EIO)
    failures.note(Handle(1), ByteRange(40, 50), errno.EACCES)
    assert failures.find(Handle(1), 10) == failures.find(Handle(1), 19) == errno.EIO
    assert failures.find(Handle(1), 40) == errno.EACCES
    assert [failures.find(Handle(1), n) for n in (9, 20, 39, 50)] == [None] * 4
    assert failures.find(Handle(2), 10) is None
    clock.seconds += REMEMBERED_S
    assert failures.find(Handle(1), 10) is None


def test_the_old_make_room_for_the_new():
    clock = Clock()
    failures = RecentFailures(clock)
    for n in range(1000):
        clock.seconds += REMEMBERED_S / 3
        failures.note(Handle(1), ByteRange(n, n + 1), errno.EIO)
    assert len(failures._failures[Handle(1)]) <= 4
    failures.forget(Handle(1))
    assert failures.find(Handle(1), 999) is None
    failures.forget(Handle(1))
