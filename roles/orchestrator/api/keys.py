"""What handlers find in their app."""

from __future__ import annotations

from aiohttp import web

from llorch.config import Settings
from roles.orchestrator.core import Orchestrator

CORE: web.AppKey[Orchestrator] = web.AppKey("core")
SETTINGS: web.AppKey[Settings] = web.AppKey("settings")
