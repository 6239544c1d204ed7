"""Networks: Flax Linen modules around the cells."""
