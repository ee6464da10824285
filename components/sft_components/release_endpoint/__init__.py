"""Take down what a failed run would leave running."""
