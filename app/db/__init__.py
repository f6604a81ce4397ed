"""Tables, sessions and all the SQL. The row is the truth; nothing outside this package writes a statement."""
