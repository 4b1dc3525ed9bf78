"""A benchmark run: which tracker, under which condition, on which machines, and the records that it writes."""
