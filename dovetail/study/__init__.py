"""The study: each technique alone, one after the other, and left out, on one hardware model."""
