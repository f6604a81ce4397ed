"""A fuzzer for the readers of uploads: seeded mutation, in a process of its own, with bounds on time and memory.

`seeds` makes good files; `mutation` damages them, and mends checksums so that the damage gets past them; `readers`
says what is read how; `loop` runs one reader and judges what it does. `python -m tests.support.hostile.fuzz --help`.
"""
