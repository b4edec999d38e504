"""The commands of `gspo-rs`, one file each; `gspo_rs.cli` loads the one that is called.

A command loads its library when it runs: its help, and an option that is wrong, need none of it.
"""
