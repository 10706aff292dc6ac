"""Emblem, the embedded text-to-image model: its vocabulary, captions, judge and weights."""
