"""One folder per deployment format: writes the file, says what it can carry, and runs it. `table` names them."""
