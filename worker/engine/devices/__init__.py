"""One file per kind of device: runs an artifact there, or computes what it would take there. `table` names them."""
