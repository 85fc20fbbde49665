"""What a design is, and measuring it."""
