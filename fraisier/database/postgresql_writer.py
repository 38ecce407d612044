"""The thread that writes deliveries: a batch is one transaction, with one sync of the disk and one NOTIFY.

Everything else is written by whoever asks for it, on a session of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg

from fraisier.database.batches import Batches
from fraisier.database.jobs import Job, answer
from fraisier.database.postgresql_connection import PATIENCE, is_of_the_server, is_passing
from fraisier.database.postgresql_transaction import PostgresqlTransaction, Transactions
from fraisier.database.prepared_delivery import prepared
from fraisier.database.receiving import record_all
from fraisier.domain.errors import StoreUnavailable


class DeliveryWriter(Batches):
    """See `Batches`. A delivery is refused (StoreUnavailable) when it has waited for `PATIENCE`."""

    def __init__(self, transactions: Transactions) -> None:
        super().__init__(prepared)
        self._transactions = transactions

    def _let_go(self) -> None:
        """Sessions belong to the pool."""

    def _commit(self, jobs: list[Job]) -> None:
        while jobs:
            try:
                self._write(jobs, latest=jobs[0].at + PATIENCE)
            except StoreUnavailable as error:
                jobs = _refuse_the_oldest(jobs, error)
            else:
                answer(jobs)
                return

    def _write(self, jobs: Sequence[Job], *, latest: float) -> None:
        try:
            values = self._transactions.perform(
                lambda tx: record_all(tx, [job.item for job in jobs]), latest=latest
            )
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - whatever it was will come up again, item by item
            self._transactions.perform(lambda tx: _write_each(tx, jobs), latest=latest)
        else:
            for job, value in zip(jobs, values, strict=True):
                job.value = value


def _refuse_the_oldest(jobs: list[Job], error: StoreUnavailable) -> list[Job]:
    """Tell those that have waited too long, at least the first; returns the others."""
    earliest = max(time.monotonic() - PATIENCE, jobs[0].at)
    refused = [job for job in jobs if job.at <= earliest]
    for job in refused:
        job.error = error
    answer(refused)
    return [job for job in jobs if job.at > earliest]


def _write_each(tx: PostgresqlTransaction, jobs: Sequence[Job]) -> None:
    """A savepoint for each item: what cannot be stored fails alone."""
    for job in jobs:
        tx.execute("SAVEPOINT item")
        part = tx.part()
        try:
            (job.value,) = record_all(part, [job.item])
            part.finish()
        except Exception as error:
            if is_of_the_server(error) or is_passing(error) or _is_lost(error, tx):
                raise
            job.error = error
            tx.execute("ROLLBACK TO item")
        else:
            job.error = None
            tx.tell(part.news)
        tx.execute("RELEASE item")


def _is_lost(error: Exception, tx: PostgresqlTransaction) -> bool:
    return isinstance(error, psycopg.Error) and tx.connection.is_lost
