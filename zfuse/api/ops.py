"""What changed a repository."""

from zfuse.api.administration_values import GCSummary
from zfuse.api.updates import Update, UpdateType

__all__ = ["GCSummary", "Update", "UpdateType"]
