"""Right groups, rank advantages and the GSPO loss in other people's training loops.

Each module needs its framework, and is imported by its own name.
"""
