"""One file per technique: turns a step of the contract into a changed model. `table` names them."""
