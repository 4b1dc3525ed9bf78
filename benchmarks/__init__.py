"""Speed, printed and never asserted: `make bench`. One module per part; those that start the node are in `live/`."""
