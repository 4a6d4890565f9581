"""Starts the jobs of ``harness run`` in other processes: of this machine, as an array of Slurm, or as tasks of Ray.

A job is a command that could be typed: ``harness run`` with the arguments of one job of a sweep, or of one shard. So a
job is resumed by starting it again, wherever it runs. What comes of the jobs is read from the rows in their runs, never
from what a job returns: one that is killed returns nothing.
"""
