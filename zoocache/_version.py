"""The version of this release; `pyproject.toml` and `zoocache.version()` read it here."""

__version__ = "0.1.0"
