"""A pure library: from a work order on disk to measured artifacts on disk. No database, broker, storage or HTTP."""
