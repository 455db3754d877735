"""The mathematics: tensors in, tensors out. No Keras in here."""
