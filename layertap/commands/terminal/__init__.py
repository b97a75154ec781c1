"""What commands write to the terminal, and the signals and streams that it sends them."""
