"""How Emblem, the embedded text-to-image model, was made: start to finish, resumable. See README.md."""
