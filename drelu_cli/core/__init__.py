"""Errors, registries, recipes and records: the words that every other room speaks.

Standard library and pydantic only: no torch, no pandas, no files.
"""
