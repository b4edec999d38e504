"""Correct groups, rank advantages and the GSPO loss in other training frameworks.

Each module needs its framework, and is imported by its own name.
"""
