"""One file per resource; each route parses, calls one service and shows the result."""
