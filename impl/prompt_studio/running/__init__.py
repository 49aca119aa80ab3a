"""Jobs that run: what a worker does between a claim and the answer that ends it."""
