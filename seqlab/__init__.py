"""seqlab: write a recurrent cell as one equation; run the grid; read the paper's table beside yours."""
