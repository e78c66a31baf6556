"""A model in less memory than it weighs: plans, what they will take, and carrying them out."""
