"""How fast a cell is, next to the same cell in other libraries: same weights, same input."""
