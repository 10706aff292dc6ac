"""Where work runs: in processes of this machine, or on a Ray cluster. The same functions, items and results."""
