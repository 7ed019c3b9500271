"""minigo measured: ladders, reports, speeds; imports the root and `play`, never the reverse."""
