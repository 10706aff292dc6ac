"""From the sparse code to the neuron of a concept."""
