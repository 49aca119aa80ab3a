"""Is the exploring machinery itself right? Asked of toy systems whose answers are known."""
