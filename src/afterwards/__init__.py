"""Durable background tasks and background file processing for FastAPI."""

from afterwards._domain.options import task
from afterwards._engine.context import current_task, progress
from afterwards.fastapi import Afterwards, BackgroundTasks, Handle

__all__ = ["Afterwards", "BackgroundTasks", "Handle", "current_task", "progress", "task"]
