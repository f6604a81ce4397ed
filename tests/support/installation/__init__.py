"""Whole installations of Pare for the tests: real processes, configured by settings and reached over HTTP alone."""
