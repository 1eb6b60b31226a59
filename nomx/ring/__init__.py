"""Rings and frames: the memory that an application shares with its device, and who owns which part of it."""
