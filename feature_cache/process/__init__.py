"""The process itself: its memory, its worker processes and threads, its modules, and what native libraries print."""
