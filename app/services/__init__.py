"""Use cases: admit an upload, submit, cancel or retry a job, publish queued work, sweep up lost work."""
