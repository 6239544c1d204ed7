"""Write a recurrent cell as one equation; run the grid; print the paper's table beside yours."""
