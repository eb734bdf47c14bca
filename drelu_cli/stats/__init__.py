"""Tests on tables of accuracies, and the rules of the audit: pure functions.

No torch, no SQL, no files, no clock, no global random state. Accuracies are percent, matrices are
blocks (rows) times treatments (columns), ranks start at 1 for the highest accuracy.
"""
