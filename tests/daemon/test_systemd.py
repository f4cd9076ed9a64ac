import os
import socket

import pytest
import trio

from zfuse.daemon.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@zfuse-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        sock.settimeout(10)
        yield sock, address


def test_says_what_it_is_told(listener):
    sock, address = listener
    Notifier.from_environment({"NOTIFY_SOCKET": address}, 1).notify("READY=1")
    assert sock.recv(100) == b"READY=1"


async def test_feeds_the_watchdog_twice_a_period(listener, autojump_clock):
    sock, address = listener
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"}
    notifier = Notifier.from_environment(environment, 1)
    assert notifier.watchdog_s == 10.0
    with trio.move_on_after(22):
        await notifier.keep_alive()
    assert [sock.recv(100) for _ in range(5)] == [b"WATCHDOG=1"] * 5
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(100)


async def test_a_listener_that_reads_nothing_holds_nobody_up(listener, autojump_clock):
    sock, address = listener
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}
    with trio.move_on_after(1000):  # many times what a socket keeps
        await Notifier.from_environment(environment, 1).keep_alive()
    assert sock.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "2"},
    ],
)
async def test_a_watchdog_that_is_not_ours_is_not_fed(environment):
    notifier = Notifier.from_environment(environment, 1)
    assert notifier.watchdog_s is None
    await notifier.keep_alive()


def test_nobody_listening_is_no_error(tmp_path):
    Notifier(None, None).notify("READY=1")
    Notifier(str(tmp_path / "gone"), None).notify("READY=1")
