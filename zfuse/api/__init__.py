"""The programming interface, under the official library's names."""
