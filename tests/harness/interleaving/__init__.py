"""L2: real sessions in real processes, and a scheduler that decides whose statement runs next."""
