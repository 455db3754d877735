"""What was learned, as plain Keras takes it."""
