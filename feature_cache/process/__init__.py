"""What concerns the process: memory at hand, worker processes, and the output of native libraries."""
