"""What passes declare to have observed on calibration rows, and the one collector that runs the rows for all of it."""
