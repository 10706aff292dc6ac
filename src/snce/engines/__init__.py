"""Where work runs: in processes of this machine, on a Ray cluster, on machines that share it. The same results."""
