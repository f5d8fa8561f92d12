"""The shared-memory segment of a host: bytes, locks, tables of hashes and numbers. No word of tags or caches here."""
