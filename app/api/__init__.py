"""HTTP: routes that only translate between requests and services."""
