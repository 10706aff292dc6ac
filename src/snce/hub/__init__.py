"""The Hugging Face hub: names of files on it, getting and putting them, and the README.md of a repository."""
