"""The main job, end to end, on Emblem: train, find, erase, measure, show."""
