"""Everything that touches tensors: the engine (a pure library) and the runtime that runs it as jobs."""
