"""What runs inside the toolchains: converters and runtimes in environments of their own, which never meet ours.

The modules here import the standard library, numpy and their own toolchain, and nothing of Pare's: an environment may
hold an older pydantic, or none. `serve` is what a toolchain's process runs; each other module is one toolchain, and
each of its public functions one task. The engine's side is `worker.engine.toolchains.process`.
"""
