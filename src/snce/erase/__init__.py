"""From the neuron to an edited pipeline."""
