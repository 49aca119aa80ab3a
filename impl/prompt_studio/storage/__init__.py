"""Where jobs and keys are kept: each operation once, over a small dialect for each database."""
