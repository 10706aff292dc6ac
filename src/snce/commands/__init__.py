"""The work behind each subcommand of `snce`: options as a frozen dataclass beside the function that takes them.

These modules import nothing heavy before their function runs, so that `--help` answers at once.
"""
