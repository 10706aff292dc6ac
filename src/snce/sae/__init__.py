"""Token embeddings to a sparse code: the autoencoder, its training, its file formats."""
