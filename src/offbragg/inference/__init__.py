"""From a map back to the parameters of a disorder model."""
