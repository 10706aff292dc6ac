"""Erasers inside other programs. Each module imports what it needs when it is used."""
