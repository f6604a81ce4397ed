"""Operators that exporters take apart, put together again, one file a pattern; `table` has the order."""
