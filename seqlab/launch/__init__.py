"""Running the trials of an experiment: workers, and the engines that start them."""
