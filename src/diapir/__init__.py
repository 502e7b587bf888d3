"""diapir finds salt in seismic data."""

from importlib.metadata import version

__version__ = version("diapir")
