"""A pytest plugin that appends the name of each test that fails to the file --failed-list."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--failed-list")


def pytest_configure(config):
    if config.getoption("--failed-list"):
        config.pluginmanager.register(FailedList(config.getoption("--failed-list")))


class FailedList:
    """Writes one name a line, each once, though a test may fail and its teardown as well."""

    def __init__(self, path):
        self._path = path
        self._written = set()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        if report.failed and report.nodeid not in self._written:
            self._written.add(report.nodeid)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\n")
