"""Are the rules themselves right? The model by itself, without a store."""
