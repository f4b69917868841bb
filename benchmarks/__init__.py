"""Speed beside the installed pyFAI: the same frames, in one process, in alternation; ratios and medians only."""
