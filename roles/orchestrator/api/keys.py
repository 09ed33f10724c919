"""What handlers find in their app."""

from __future__ import annotations

from aiohttp import web

from llorch.settings import Settings
from roles.orchestrator.batches.registry import Registry
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.operations import Operations

CORE: web.AppKey[Orchestrator] = web.AppKey("core")
SETTINGS: web.AppKey[Settings] = web.AppKey("settings")
OPERATIONS: web.AppKey[Operations] = web.AppKey("operations")
BATCHES: web.AppKey[Registry] = web.AppKey("batches")
