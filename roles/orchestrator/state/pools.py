"""What is kept of pools on disk: where they were last, and which of them an operator drains."""

from __future__ import annotations

from roles.orchestrator.state.store import Store


class KnownPools:
    """The statements about pools, of one store."""

    def __init__(self, store: Store) -> None:
        self._writer = store.writer
        self._reader = store.reader

    async def remember(self, pool_id: str, endpoint: str) -> None:
        """Note where a pool is, so that a restarted orchestrator can tell it so."""
        statement = "INSERT OR REPLACE INTO pools VALUES (?, ?)"
        await self._writer.write(lambda db: db.execute(statement, (pool_id, endpoint)).rowcount)

    async def forget(self, pool_id: str) -> None:
        """Forget a pool that has said goodbye; that it is drained is not forgotten."""
        await self._writer.write(lambda db: db.execute("DELETE FROM pools WHERE pool_id = ?", (pool_id,)).rowcount)

    async def endpoints(self) -> dict[str, str]:
        """Return the endpoints of the pools that were there last, by id."""
        return dict(await self._reader.read(lambda db: db.execute("SELECT pool_id, endpoint FROM pools").fetchall()))

    async def drain(self, pool_id: str) -> None:
        """Note that a pool is drained."""
        statement = "INSERT OR IGNORE INTO drained_pools VALUES (?)"
        await self._writer.write(lambda db: db.execute(statement, (pool_id,)).rowcount)

    async def resume(self, pool_id: str) -> None:
        """Note that a pool is not drained any more."""
        statement = "DELETE FROM drained_pools WHERE pool_id = ?"
        await self._writer.write(lambda db: db.execute(statement, (pool_id,)).rowcount)

    async def drained(self) -> set[str]:
        """Return the pools that are drained."""
        found = await self._reader.read(lambda db: db.execute("SELECT pool_id FROM drained_pools").fetchall())
        return {pool_id for (pool_id,) in found}
