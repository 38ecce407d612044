"""What the verbs need from outside, as Protocols. Adapters fill them; `wiring.py` chooses which.

One file per port. All of these block, except where a Future is returned: a deployment is performed by a
thread of its own, and the receiver's event loop only ever waits for `Store.record_async`.
"""

from fraisier.application.ports.attempt import Claim, Ending, JournaledStep, Output, Serving
from fraisier.application.ports.clock import Clock
from fraisier.application.ports.codec import EnvironmentCodec
from fraisier.application.ports.forge import Forge, Headers
from fraisier.application.ports.health import Health, Prober, Runner
from fraisier.application.ports.host import Ground, Host
from fraisier.application.ports.listener import Listener
from fraisier.application.ports.migrations import CommandEnv, Migrations
from fraisier.application.ports.processes import Finished, Job, Processes, Program
from fraisier.application.ports.receiving import Delivery, Received, Requested
from fraisier.application.ports.repository import Contents, Fetched, Repository, Unpacking
from fraisier.application.ports.store import Row, Store
from fraisier.application.ports.target import Problem, Target, UnitState
from fraisier.application.settings import Configuration, ForgeInstance, Settings

__all__ = [
    "Claim",
    "Clock",
    "CommandEnv",
    "Configuration",
    "Contents",
    "Delivery",
    "Ending",
    "EnvironmentCodec",
    "Fetched",
    "Finished",
    "Forge",
    "ForgeInstance",
    "Ground",
    "Headers",
    "Health",
    "Host",
    "Job",
    "JournaledStep",
    "Listener",
    "Migrations",
    "Output",
    "Prober",
    "Problem",
    "Processes",
    "Program",
    "Received",
    "Repository",
    "Requested",
    "Row",
    "Runner",
    "Serving",
    "Settings",
    "Store",
    "Target",
    "UnitState",
    "Unpacking",
]
