"""The tests; a package, so that folders named like our own packages, or like others, shadow none of them."""
