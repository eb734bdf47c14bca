"""Devices, random streams, the micro-batch driver, timing, provenance.

Importing this room imports no torch; its modules do where they need it.
"""
