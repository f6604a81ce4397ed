"""The worked examples of CONTRIBUTING: a step, a metric, an observer and a target, each in a file of its own."""
