"""Claims jobs, runs each in a jailed child process, publishes what came out."""
