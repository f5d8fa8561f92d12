"""The engine: calls, fills and live objects of one process, between what the user says and what is shared."""
