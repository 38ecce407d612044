"""What the verbs need from outside, as Protocols. Adapters fill them; `wiring.py` chooses which.

One file per port. All of these block, except where a Future is returned: a deployment is performed by a
thread of its own, and the receiver's event loop only ever waits for `Store.record_async`.

A file is loaded when one of its names is first asked for: commands that only read need three, and the
classes of all together take a tenth of such a command's time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fraisier.application.ports.attempt import Claim as Claim
    from fraisier.application.ports.attempt import Ending as Ending
    from fraisier.application.ports.attempt import Holder as Holder
    from fraisier.application.ports.attempt import JournaledStep as JournaledStep
    from fraisier.application.ports.attempt import Output as Output
    from fraisier.application.ports.attempt import Serving as Serving
    from fraisier.application.ports.backup_notes import BackupNotes as BackupNotes
    from fraisier.application.ports.backups import Cipher as Cipher
    from fraisier.application.ports.backups import Desk as Desk
    from fraisier.application.ports.backups import DestinationBrand as DestinationBrand
    from fraisier.application.ports.backups import Dumper as Dumper
    from fraisier.application.ports.backups import Performer as Performer
    from fraisier.application.ports.backups import SourceBrand as SourceBrand
    from fraisier.application.ports.clock import Clock as Clock
    from fraisier.application.ports.codec import EnvironmentCodec as EnvironmentCodec
    from fraisier.application.ports.database import Copied as Copied
    from fraisier.application.ports.database import Database as Database
    from fraisier.application.ports.database import DatabaseStatus as DatabaseStatus
    from fraisier.application.ports.database import MigrationState as MigrationState
    from fraisier.application.ports.database import MigrationStatus as MigrationStatus
    from fraisier.application.ports.database import SchemaState as SchemaState
    from fraisier.application.ports.database import Told as Told
    from fraisier.application.ports.forge import Forge as Forge
    from fraisier.application.ports.forge import Headers as Headers
    from fraisier.application.ports.health import Dial as Dial
    from fraisier.application.ports.health import Health as Health
    from fraisier.application.ports.health import Prober as Prober
    from fraisier.application.ports.health import Runner as Runner
    from fraisier.application.ports.host import Ground as Ground
    from fraisier.application.ports.host import Host as Host
    from fraisier.application.ports.listener import Listener as Listener
    from fraisier.application.ports.migrations import UNREACHABLE as UNREACHABLE
    from fraisier.application.ports.migrations import Answer as Answer
    from fraisier.application.ports.migrations import CannotTell as CannotTell
    from fraisier.application.ports.migrations import CommandEnv as CommandEnv
    from fraisier.application.ports.migrations import Migrations as Migrations
    from fraisier.application.ports.news import News as News
    from fraisier.application.ports.processes import Finished as Finished
    from fraisier.application.ports.processes import Job as Job
    from fraisier.application.ports.processes import Processes as Processes
    from fraisier.application.ports.processes import Program as Program
    from fraisier.application.ports.proxy import OpenProxy as OpenProxy
    from fraisier.application.ports.proxy import Proxy as Proxy
    from fraisier.application.ports.receiving import Delivery as Delivery
    from fraisier.application.ports.receiving import Received as Received
    from fraisier.application.ports.receiving import Requested as Requested
    from fraisier.application.ports.repository import Contents as Contents
    from fraisier.application.ports.repository import Fetched as Fetched
    from fraisier.application.ports.repository import History as History
    from fraisier.application.ports.repository import LoggedCommit as LoggedCommit
    from fraisier.application.ports.repository import Repository as Repository
    from fraisier.application.ports.repository import Unpacking as Unpacking
    from fraisier.application.ports.runs import LEFT as LEFT
    from fraisier.application.ports.runs import Newest as Newest
    from fraisier.application.ports.runs import RunClaim as RunClaim
    from fraisier.application.ports.runs import Runs as Runs
    from fraisier.application.ports.store import Row as Row
    from fraisier.application.ports.store import Store as Store
    from fraisier.application.ports.target import OfGroup as OfGroup
    from fraisier.application.ports.target import Problem as Problem
    from fraisier.application.ports.target import SideBySide as SideBySide
    from fraisier.application.ports.target import Target as Target
    from fraisier.application.ports.target import UnitState as UnitState
    from fraisier.application.ports.workplace import Said as Said
    from fraisier.application.ports.workplace import WorkingTarget as WorkingTarget
    from fraisier.application.ports.workplace import Workplace as Workplace
    from fraisier.application.settings import Configuration as Configuration
    from fraisier.application.settings import ForgeInstance as ForgeInstance
    from fraisier.application.settings import Settings as Settings

_FILES = {
    "ports.attempt": "Claim Ending Holder JournaledStep Output Serving",
    "ports.clock": "Clock",
    "ports.codec": "EnvironmentCodec",
    "ports.database": "Copied Database DatabaseStatus MigrationState MigrationStatus SchemaState Told",
    "ports.forge": "Forge Headers",
    "ports.health": "Dial Health Prober Runner",
    "ports.host": "Ground Host",
    "ports.listener": "Listener",
    "ports.backup_notes": "BackupNotes",
    "ports.backups": "Cipher Desk DestinationBrand Dumper Performer SourceBrand",
    "ports.news": "News",
    "ports.migrations": "UNREACHABLE Answer CannotTell CommandEnv Migrations",
    "ports.processes": "Finished Job Processes Program",
    "ports.proxy": "OpenProxy Proxy",
    "ports.receiving": "Delivery Received Requested",
    "ports.repository": "Contents Fetched History LoggedCommit Repository Unpacking",
    "ports.runs": "LEFT Newest RunClaim Runs",
    "ports.store": "Row Store",
    "ports.target": "OfGroup Problem SideBySide Target UnitState",
    "ports.workplace": "Said WorkingTarget Workplace",
    "settings": "Configuration ForgeInstance Settings",
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names.split()}
__all__ = list(_FILE_OF)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load the file that has `name` (https://peps.python.org/pep-0562/)."""
        from importlib import import_module

        if name not in _FILE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"fraisier.application.{_FILE_OF[name]}"), name)
        return found
