"""From the neuron to an edited pipeline."""

DEFAULT_STRENGTH = 2.0
"""How far a neuron is pushed: 1 removes its contribution, more goes past zero."""
