"""Every technique alone and in chains, measured on trained networks: `make results` writes `docs/results.md`."""
