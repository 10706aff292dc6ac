"""Erasure methods behind one interface, one file each."""
