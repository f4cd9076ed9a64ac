"""Real mounts, for faults as readers meet them."""

from tests.mount.conftest import mount, mounted

__all__ = ["mount", "mounted"]  # fixtures
